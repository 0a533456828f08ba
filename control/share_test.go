package control

import (
	"context"
	"strings"
	"testing"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/share"
)

type shareParts struct{ *parts }

var anOffer = hearth.Offer{
	ID: "o", Owner: ours, Function: "f", Versions: []string{"$LATEST"}, Description: "d", Public: true, Accounts: []hearth.Account{ours}, Except: []hearth.Account{ours},
	MinMemoryMiB: 128, MaxMemoryMiB: 256, MinTimeoutSeconds: 1, MaxTimeoutSeconds: 2,
	Parameters: []hearth.Parameter{{Name: "KEY", Description: "d", Secret: true, Required: true}, {Name: "N", Default: "1"}},
	Reaches:    []string{"h:1"}, Concurrency: 1, Rate: 2.5, Calls: 3, Markup: 0.25, Created: noon, Updated: noon,
}

var anAlias = hearth.SharedAlias{
	Account: ours, Name: "n", ARN: "arn", Offer: "o", Owner: ours, Version: "1", Description: "d", MemoryMiB: 128, TimeoutSeconds: 1,
	Network: hearth.NetworkPolicy{Open: true, Allow: []string{"h:1"}}, Set: []string{"KEY"}, Created: noon, Updated: noon, Status: "active",
}

func (p shareParts) Offers(hearth.Account) ([]hearth.Offer, error) {
	return []hearth.Offer{anOffer}, p.err
}

func (p shareParts) Offered(hearth.Account) ([]hearth.Offer, error) {
	return []hearth.Offer{anOffer}, p.err
}

func (p shareParts) Offer(context.Context, hearth.Account, hearth.Offer) (*hearth.Offer, error) {
	return &anOffer, p.err
}

func (p shareParts) Grant(context.Context, hearth.Account, string, hearth.Account) (*hearth.Offer, error) {
	return &anOffer, p.err
}

func (p shareParts) Revoke(context.Context, hearth.Account, string, hearth.Account) (*hearth.Offer, error) {
	return &anOffer, p.err
}

func (p shareParts) Withdraw(context.Context, hearth.Account, string) error { return p.err }

func (p shareParts) Aliases(hearth.Account) ([]hearth.SharedAlias, error) {
	return []hearth.SharedAlias{anAlias}, p.err
}

func (p shareParts) Alias(hearth.Account, string) (*hearth.SharedAlias, error) {
	return &anAlias, p.err
}

func (p shareParts) Accept(context.Context, hearth.Account, share.Acceptance) (*hearth.SharedAlias, error) {
	return &anAlias, p.err
}

func (p shareParts) Delete(context.Context, hearth.Account, string) error { return p.err }

func (p shareParts) Uses(hearth.Account) ([]hearth.SharedUse, error) {
	return []hearth.SharedUse{{Offer: "o", Owner: ours, Account: ours, Calls: 1, Refused: 2, Ends: map[string]int64{"ok": 1}}}, p.err
}

func TestABodyThatIsNotUnderstoodIsNotRepeated(t *testing.T) {
	for _, body := range []string{`{"parameters":{"KEY":"hunter2"},"what":1}`, `{"parameters":{"KEY":"hunter2"}} {}`, `{"parameters":"hunter2"}`, `{"parameters":{"KEY":["hunter2"]}}`} {
		var a share.Acceptance
		if err := oneDocument([]byte(body), &a); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", body, err)
		}
	}
}
