package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth/meter"
)

const agreedCode = `
def handler(event, context):
    c = context.client_context
    return {"custom": c.custom if c else None}
`

// What a hostile owner would do once others depend on its code: ask for more, by
// an offer and by an API; find out what they call it; call at their expense.
func TestS05WhatARunCostsIsAgreedByBoth(t *testing.T) {
	t.Parallel()
	s := start(t)
	b, a := s.tenant("team-b"), s.tenant("team-a")
	b.deploy(function{name: "signer", runtime: "python3.12", files: map[string]string{"index.py": agreedCode}})
	offer := strings.TrimSpace(b.must("offer", "create", "signer", "--to", a.id, "--markup", "0.2", "--memory", "128-512", "--description", "Signs \x1b[31mdocuments.", "--parameter", "KEY:secret"))
	b.must("tasks", "create", "pen", "--open", "--markup", "0.2", "--rate", "50", "--key-rate", "50")
	b.must("tasks", "put", "pen", "sign=signer")

	// The caller sees what it agrees to, and nothing that its terminal would obey.
	shown := a.must("offer", offer)
	for _, want := range []string{"Signs  [31mdocuments.", "128 to 512 MiB", "20% on top", "KEY: may be set, secret"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the offer does not say %q:\n%s", want, shown)
		}
	}
	if _, err := a.hearth("shared-alias", "create", "merger-with-c", offer, "--markup", "0.1"); err == nil || !strings.Contains(err.Error(), "a markup of 0.2, and 0.1 is agreed to") {
		t.Errorf("at less than is asked: %v", err)
	}
	a.must("shared-alias", "create", "merger-with-c", offer)
	a.must("tasks", "subscribe", b.id+"/pen", "--as", "project-x")
	names := []string{"merger-with-c", "project-x--sign"}
	call := func(when string, want string) {
		t.Helper()
		for _, name := range names {
			got, err := a.invoke(name, `{}`)
			switch {
			case want == "" && (err != nil || got.functionError != ""):
				t.Errorf("%s, %s: %v %s", when, name, err, got.payload)
			case want != "" && (code(err) != "AccessDeniedException" || !strings.Contains(err.Error(), want)):
				t.Errorf("%s, %s: %v", when, name, err)
			}
		}
	}
	call("as agreed", "")
	b.must("offer", "update", offer, "--markup", "99")
	b.must("tasks", "configure", "pen", "--markup", "99")
	call("raised", "a markup of 99, and 0.2 is agreed to")
	if out := a.must("shared-alias"); !strings.Contains(out, "hearth shared-alias update merger-with-c --markup 99") {
		t.Errorf("the way out is not told:\n%s", out)
	}
	if out := a.must("tasks"); !strings.Contains(out, "raised") {
		t.Errorf("that the API asks for more is not told:\n%s", out)
	}
	a.must("shared-alias", "update", "merger-with-c", "--markup", "99")
	a.must("tasks", "subscribe", b.id+"/pen", "--as", "project-x", "--markup", "99")
	call("agreed again", "")

	// What was not given to configure is as it was.
	if out := b.must("tasks", "--json"); !strings.Contains(out, `"open": true`) || strings.Count(out, `"rate": 50`) != 2 {
		t.Errorf("the settings are %s", out)
	}

	// A key in the client context lets the caller in and is not the owner's to see.
	key := strings.TrimSpace(a.must("tasks", "key", "create", "project-x"))
	if out := a.must("tasks", "key"); !strings.Contains(out, "project-x") || strings.Contains(out, key) {
		t.Errorf("the keys are %s", out)
	}
	out := a.must("invoke", "project-x--sign", "{}", "--client-context", `{"custom":{"x-api-key":"`+key+`","trace":"7"}}`)
	if strings.Contains(out, key) || !strings.Contains(out, `"trace": "7"`) {
		t.Errorf("the owner's code sees %s", out)
	}

	// The owner's revenue is of its own functions.
	bill := s06Bill(t, b.controlClient(), meter.Query{})
	text, err := json.Marshal(bill)
	if err != nil || bill.RevenueTotal.Calls != 5 || len(bill.Revenue) != 1 || bill.Revenue[0].Function != "signer" {
		t.Errorf("%s, %v", text, err)
	}
	for _, out := range []string{string(text), b.must("bill"), b.must("bill", "--csv"), b.must("bill", "--by", "api"), b.must("tasks", "subscribers", "pen", "--json"), b.must("offer", "uses", "--json")} {
		if strings.Contains(out, "merger-with-c") || strings.Contains(out, "project-x") {
			t.Errorf("the owner learns what the caller calls it: %s", out)
		}
	}

	// A name of a subscription's tasks is no alias's, which nothing could call.
	if _, err := a.hearth("shared-alias", "create", "project-x--other", offer); err == nil || !strings.Contains(err.Error(), "hearth tasks list") {
		t.Errorf("an alias under a subscription's name: %v", err)
	}
	// Not waited for: by name, and by HTTP where a key is needed, which is not kept.
	ids := []string{strings.TrimSpace(a.must("invoke", "merger-with-c", "{}", "--async"))}
	b.must("tasks", "configure", "pen", "--key")
	for given, status := range map[string]int{key: http.StatusAccepted, "hk-guess": http.StatusForbidden} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.endpoint+"/tasks/"+b.id+"/pen/prod/sign", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Api-Key", given)
		req.Header.Set("X-Amz-Invocation-Type", "Event")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("an event with the key %s: %s", given, resp.Status)
		}
		if status == http.StatusAccepted {
			ids = append(ids, resp.Header.Get("X-Hearth-Request-Id"))
		}
	}
	for _, id := range ids {
		await(t, patience, "the stored event has run", func() bool {
			story, err := a.hearth("explain", id)
			return err == nil && strings.Contains(story, "ok in")
		})
	}
}
