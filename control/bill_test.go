package control

import (
	"context"
	"errors"
	"testing"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/meter"
)

// billParts is a Bills.
type billParts struct{ *parts }

func (p billParts) Bill(_ context.Context, q meter.Query) (*meter.Bill, error) {
	line := meter.Line{Account: q.Account, Function: "f", Calls: 3, CPUSeconds: 0.5}
	return &meter.Bill{Account: q.Account, Month: "2026-01", By: "function", Currency: "EUR", At: noon,
		Lines: []meter.Line{line}, Total: line, Revenue: []meter.Line{{Account: theirs, Owner: ours, API: "img", Stage: "prod", Hour: "2026-01-02T12"}}}, p.err
}

func (p billParts) Prices() []meter.Prices {
	return []meter.Prices{{From: "2026-01-02T12", Currency: "EUR", CPUSecond: 0.5}}
}

func (p billParts) SetPrices(context.Context, meter.Prices) error { return p.err }

func TestAnAccountSeesItsOwnBillAndTheOperatorAll(t *testing.T) {
	operator := serve(t, &parts{}, root, nil)
	other := serve(t, &parts{}, hearth.Identity{Account: theirs, ARN: "arn:aws:iam::111111111111:root"}, nil)
	for _, c := range []struct {
		who    *Client
		of     hearth.Account
		want   hearth.Account
		denied bool
	}{
		{operator, "", ours, false}, {operator, theirs, theirs, false}, {operator, AllAccounts, "", false},
		{other, "", theirs, false}, {other, theirs, theirs, false}, {other, ours, "", true}, {other, AllAccounts, "", true},
	} {
		b, err := c.who.Bill(t.Context(), meter.Query{Account: c.of})
		if f, ok := errors.AsType[*Failure](err); c.denied != (ok && f.Kind == hearth.AccessDenied) || !c.denied && (err != nil || b.Account != c.want) {
			t.Errorf("of %q: %+v, %v", c.of, b, err)
		}
	}
	if _, err := other.SetPrices(t.Context(), meter.Prices{}); err == nil {
		t.Error("not only the operator sets prices")
	}
	if list, err := operator.SetPrices(t.Context(), meter.Prices{CPUSecond: 0.5}); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := send[PriceList](t.Context(), operator, "POST", "/bill/prices/set", nil, []byte(`{"cpu": 1}`)); err == nil {
		t.Error("an unknown price is taken")
	}
}
