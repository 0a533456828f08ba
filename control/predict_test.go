package control

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// needs are the parameters that an operation can't do without, for a query.
func (op operation) needs() (query string) {
	for _, p := range op.Parameters {
		switch {
		case !p.Required:
		case p.Schema.Type == "integer":
			query += "&" + p.Name + "=1"
		default:
			query += "&" + p.Name + "=f"
		}
	}
	return query
}

// predictionParts are Predictions and Learned.
type predictionParts struct{ *parts }

func (p predictionParts) Hint(_ context.Context, h Hint) (string, error) {
	p.hinted = h
	return "h", p.err
}

func (p predictionParts) Triggers(context.Context, hearth.Account) ([]Trigger, error) {
	return []Trigger{{Name: "t", Functions: []string{"f"}, Created: noon, Learned: []string{"3.1 invocations of f"}}}, p.err
}

func (p predictionParts) SetTrigger(context.Context, hearth.Account, Trigger) (string, error) {
	return "secret", p.err
}

func (p predictionParts) RemoveTrigger(context.Context, hearth.Account, string) error { return p.err }
func (p predictionParts) Fire(hearth.Account, string) error                           { return p.err }

func (p predictionParts) FireWith(account hearth.Account, name, token string) error {
	p.noticed = string(account) + "/" + name + "/" + token
	return p.err
}

func (p predictionParts) Learned(context.Context, hearth.Account, string) ([]Section, error) {
	return []Section{{System: "calls"}}, p.err
}

func TestAHintIsForTheCallersAccountAndLastsAMinute(t *testing.T) {
	p := &parts{}
	c := serve(t, p, root, nil)
	if id, err := c.Hint(t.Context(), Hint{Account: theirs, Function: "f", Count: 5, At: noon, Until: noon.Add(time.Hour)}); err != nil || id != "h" {
		t.Fatal(id, err)
	}
	if want := (Hint{Account: ours, Function: "f", Count: 5, At: noon, Until: noon.Add(time.Hour)}); p.hinted != want {
		t.Errorf("hinted %+v", p.hinted)
	}
	if _, err := rawBy(t, c, http.MethodPost, "/hint?function=f&at="+noon.Format(time.RFC3339)); err != nil {
		t.Fatal(err)
	}
	if p.hinted.Count != 1 || p.hinted.Until.Sub(p.hinted.At) != time.Minute {
		t.Errorf("hinted %+v", p.hinted)
	}
	for _, bad := range []string{"", "function=f&count=0", "function=f&count=1001", "function=f&at=soon", "function=f&for=long"} {
		_, err := rawBy(t, c, http.MethodPost, "/hint?"+bad)
		if f, ok := errors.AsType[*Failure](err); !ok || f.Kind != hearth.InvalidParameter {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestANoticeNeedsNoSignatureButTheTriggersToken(t *testing.T) {
	p := &parts{}
	c := serve(t, p, hearth.Identity{}, hearth.Errorf(hearth.InvalidSignature, "no"))
	give := func(query, bearer string) (int, string) {
		req, err := http.NewRequest(http.MethodPost, c.Endpoint+Prefix+"/trigger?"+query, strings.NewReader("whatever a beacon sends"))
		if err != nil {
			t.Fatal(err)
		}
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		resp, err := c.HTTP.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%v, %v", err, resp.Header)
		}
		return resp.StatusCode, string(body)
	}
	for _, with := range [][2]string{{"account=1&name=t&token=secret", ""}, {"account=1&name=t", "secret"}} {
		if code, body := give(with[0], with[1]); code != http.StatusOK || p.noticed != "1/t/secret" {
			t.Errorf("%v: %d %s, noticed %s", with, code, body, p.noticed)
		}
	}
	p.err = hearth.Errorf(hearth.AccessDenied, "not that token")
	if code, body := give("account=1&name=t&token=x", ""); code != http.StatusForbidden || !strings.Contains(body, "not that token") {
		t.Errorf("%d %s", code, body)
	}
}

func TestATriggersTokenIsToldWhenItIsMade(t *testing.T) {
	c := serve(t, &parts{}, root, nil)
	made, err := c.SetTrigger(t.Context(), Trigger{Name: "t", Functions: []string{"f"}})
	if err != nil || made.Token != "secret" {
		t.Errorf("%+v, %v", made, err)
	}
	list, err := c.Triggers(t.Context())
	if err != nil || len(list) != 1 || list[0].Token != "" {
		t.Errorf("%+v, %v", list, err)
	}
	if sections, err := c.Learned(t.Context(), "f"); err != nil || len(sections) != 1 || sections[0].Says == nil {
		t.Errorf("%+v, %v", sections, err)
	}
}
