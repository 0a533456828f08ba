package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/meter"
)

// A shared alias on another machine is held to what it is held to here: bounds,
// network, withholding, metering and revocation. The node is a process of its own.
func TestS05OnAnotherNodeAllIsAsHere(t *testing.T) {
	t.Parallel()
	w := newS05(t, "--nodes", "127.0.0.1:0", "--fleet", "high")
	n := w.server.join("there", "--fleet", "low")
	w.server.awaitNodes(2)
	a, ctx := w.a1, t.Context()
	const input = "a1-input-5512ab"
	calls := int64(0)
	// there invokes, and demands that it ran there, for the two.
	there := func(event string) (got answer) {
		t.Helper()
		got, err := a.invoke(s05Alias, event)
		if err != nil {
			t.Fatal(err)
		}
		calls++
		if d := a.placed(s05Alias); d.Node != "there" || string(d.Owner) != w.b.id || string(d.Account) != a.id {
			t.Errorf("it ran on %q for %s and %s: %s", d.Node, d.Account, d.Owner, d.Why)
		}
		return got
	}
	if got := there(put("one", input)); got.functionError != "" || !strings.Contains(got.payload, `"stored"`) {
		t.Fatalf("%+v", got)
	}
	if v, ok := w.buckets.get("a1/archive/one"); !ok || v != `"`+input+`"` {
		t.Errorf("the bucket has %q, %v", v, ok)
	}

	// What it may reach, and that it has no credentials.
	steal, err := json.Marshal(map[string]any{"do": "steal", "to": []string{w.outside.ledger, w.outside.greeter, "100.64.0.1:9070", w.buckets.at}, "datagrams": []string{w.outside.ledger}})
	if err != nil {
		t.Fatal(err)
	}
	var sent map[string]string
	if got := there(string(steal)); json.Unmarshal([]byte(got.payload), &sent) != nil {
		t.Fatalf("%+v", got)
	}
	for to, want := range map[string]string{w.outside.ledger: "refused", w.outside.greeter: "refused", "100.64.0.1:9070": "refused", w.buckets.at: "sent", "udp " + w.outside.ledger: "refused", "name": "refused"} {
		if sent[to] != want {
			t.Errorf("to %s: %q, want %s", to, sent[to], want)
		}
	}
	if _, ok := w.outside.written.Load(w.keys[a]); ok {
		t.Error("A1's key was written down elsewhere")
	}
	if look := there(`{"do":"look"}`); strings.Contains(look.payload, "AWS_ACCESS_KEY_ID") || strings.Contains(look.payload, "AWS_SESSION_TOKEN") {
		t.Errorf("the run has credentials: %s", look.payload)
	}

	// What is withheld: of failures, of the log, of what is kept there.
	var seen strings.Builder
	for _, do := range []string{"raise", "raise-typed", "exit"} {
		got := there(`{"do":"` + do + `","x":"` + input + `"}`)
		log, err := base64.StdEncoding.DecodeString(got.log)
		if err != nil || got.functionError == "" || !strings.Contains(string(log), "REPORT RequestId") {
			t.Errorf("%s: %+v, %s", do, got, log)
		}
		fmt.Fprintln(&seen, got.payload, string(log))
	}
	// Its bounds.
	a.must("shared-alias", "update", s05Alias, "--memory", "128", "--timeout", "5")
	if got := there(`{"do":"hog","mib":300}`); got.functionError == "" {
		t.Errorf("with 128 MiB it takes 300: %+v", got)
	}
	a.must("shared-alias", "update", s05Alias, "--timeout", "1")
	if got := there(`{"do":"slow"}`); !strings.Contains(got.payload, "timed out after 1.00 seconds") {
		t.Errorf("with a second it takes more: %+v", got)
	}
	a.must("shared-alias", "update", s05Alias, "--timeout", "60")
	await(t, patience, "the log has come", func() bool { return strings.Contains(a.must("logs", s05Alias), "timed out") })
	fmt.Fprintln(&seen, w.told(a, s05Alias))
	for _, secret := range []string{s05Source, s05Owned} {
		if i, s := strings.Index(seen.String(), secret), seen.String(); i >= 0 {
			t.Errorf("A1 sees %q: …%s…", secret, s[max(0, i-300):min(len(s), i+200)])
		}
	}
	told := w.told(w.b, "archive") + w.told(w.b, s05Alias)
	for _, secret := range []string{w.keys[a], input} {
		if i := strings.Index(told, secret); i >= 0 {
			t.Errorf("B sees %q: …%s…", secret, told[max(0, i-300):min(len(told), i+200)])
		}
	}
	// B is told how the runs ended, which is of the node's words: out of memory too.
	var uses control.SharedUses
	if err := json.Unmarshal([]byte(w.b.must("offer", "uses", "--json")), &uses); err != nil || len(uses.Uses) != 1 {
		t.Fatal(uses, err)
	}
	if u := uses.Uses[0]; u.Calls != calls || u.Ends["memory"] != 1 || u.Ends["timeout"] != 1 {
		t.Errorf("%d calls, of which B is told %+v", calls, u)
	}

	// It is A1's expense.
	await(t, patience, "what ran there is on A1's bill", func() bool {
		return s06Bill(t, a.controlClient(), meter.Query{}).Total.Calls == calls
	})
	if b := s06Bill(t, w.b.controlClient(), meter.Query{}); b.Total.Calls != 0 || b.Total.Cost != 0 || b.RevenueTotal.Calls != calls {
		t.Errorf("B's bill: %+v, revenue %+v", b.Total, b.RevenueTotal)
	}

	// It is revoked while one runs there: that one ends, the next is refused, and
	// what has A1's key there is gone.
	slow := make(chan error, 1)
	go func() {
		got, err := w.a1.invoke(s05Alias, put("slow", 1, "do", "gate"))
		if got.functionError != "" {
			err = fmt.Errorf("%s", got.payload)
		}
		slow <- err
	}()
	await(t, patience, "the slow call runs", func() bool { _, ok := w.buckets.get("a1/at-the-gate"); return ok })
	await(t, patience, "its container is told of", func() bool { return w.server.containersOn("there") > 0 })
	w.b.must("offer", "revoke", w.offer, a.id)
	if _, err := a.invoke(s05Alias, put("after", 1)); !withdrawn(err) {
		t.Errorf("A1's next call: %v", err)
	}
	if _, err := a.client().Invoke(ctx, &lambda.InvokeInput{FunctionName: ptr(s05Alias), InvocationType: types.InvocationTypeEvent, Payload: []byte(put("after", 1))}); !withdrawn(err) {
		t.Errorf("A1's next event: %v", err)
	}
	close(w.buckets.gate)
	if err := <-slow; err != nil {
		t.Errorf("the call that was running: %v", err)
	}
	if _, ok := w.buckets.get("a1/archive/slow"); !ok {
		t.Error("the call that was running did not end")
	}
	await(t, patience, "the containers with A1's key are gone", func() bool { return w.server.containersOn("there") == 0 })
	if _, ok := w.buckets.get("a1/archive/after"); ok {
		t.Error("it ran after it was revoked")
	}
	w.b.must("offer", "grant", w.offer, a.id)
	if got := there(put("again", 1)); got.functionError != "" {
		t.Errorf("granted again: %+v", got)
	}
	n.stop(t)
	inFolder(t, n.dir, w.keys[a], input)
	if log := n.log.String(); strings.Contains(log, w.keys[a]) || strings.Contains(log, input) || strings.Contains(log, s05Source) {
		t.Error("the node's log tells of keys, input or code")
	}
}

// containersOn is how many containers a node has, as its last heartbeat said.
func (s *server) containersOn(node string) int {
	s.t.Helper()
	list, err := s.controlClient().Nodes(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, n := range list.Nodes {
		if n.Name == node {
			return n.Containers
		}
	}
	s.t.Fatalf("there is no node %s", node)
	return 0
}
