package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/hearth-faas/hearth/control"
)

// inFolder demands that none of the texts is in a file of the data folder, packed
// or not.
func inFolder(t *testing.T, dir string, texts ...string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, text := range texts {
			if bytes.Contains(b, []byte(text)) {
				t.Errorf("%s has %q", path, text)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// withdrawn reports whether an answer is the one that a revoked alias gives.
func withdrawn(err error) bool {
	return code(err) == "AccessDeniedException" && strings.Contains(err.Error(), "has withdrawn")
}

func TestS05ARevokedAliasFailsAtOnceAndTheOthersDoNot(t *testing.T) {
	t.Parallel()
	w := newS05(t)
	w.a1.mustInvoke(s05Alias, put("before", 1))
	w.a2.mustInvoke(s05Alias, put("before", 1))

	// An event that waits, since the offer's limits let nothing in meanwhile.
	w.b.must("offer", "update", w.offer, "--concurrency", "1")
	slow := make(chan error, 1)
	go func() {
		got, err := w.a1.invoke(s05Alias, put("slow", 1, "do", "gate"))
		if got.functionError != "" {
			err = fmt.Errorf("%s", got.payload)
		}
		slow <- err
	}()
	await(t, patience, "the slow call runs", func() bool { _, ok := w.buckets.get("a1/at-the-gate"); return ok })
	if _, err := w.a1.invoke(s05Alias, put("second", 1)); code(err) != "TooManyRequestsException" {
		t.Errorf("a second call at a time: %v", err)
	}
	if _, err := w.a1.client().Invoke(t.Context(), &lambda.InvokeInput{FunctionName: ptr(s05Alias), InvocationType: types.InvocationTypeEvent, Payload: []byte(put("event", 1))}); err != nil {
		t.Fatal(err)
	}
	w.b.must("offer", "revoke", w.offer, w.a1.id)
	if _, err := w.a1.invoke(s05Alias, put("after", 1)); !withdrawn(err) {
		t.Errorf("A1's next call: %v", err)
	}
	close(w.buckets.gate)
	if err := <-slow; err != nil {
		t.Errorf("the call that was running: %v", err)
	}
	if _, ok := w.buckets.get("a1/archive/slow"); !ok {
		t.Error("the call that was running did not end")
	}
	w.a2.mustInvoke(s05Alias, put("after", 1))
	if _, err := w.a2.client().Invoke(t.Context(), &lambda.InvokeInput{FunctionName: ptr(s05Alias), InvocationType: types.InvocationTypeEvent, Payload: []byte(put("event", 2))}); err != nil {
		t.Fatal(err)
	}
	await(t, patience, "A2's event runs", func() bool { _, ok := w.buckets.get("a2/archive/event"); return ok })
	await(t, patience, "the event is parked with the reason", func() bool {
		out := w.a1.must("parked", "--json")
		return strings.Contains(out, "has withdrawn")
	})
	if _, ok := w.buckets.get("a1/archive/event"); ok {
		t.Error("the event ran though the alias was revoked")
	}
	await(t, patience, "the pooled environments are gone", func() bool { return !strings.Contains(w.a1.must("ps", "--json"), s05Alias) })
	var list control.SharedAliases
	if err := json.Unmarshal([]byte(w.a1.must("shared-alias", "--json")), &list); err != nil || len(list.Aliases) != 1 || !strings.Contains(list.Aliases[0].Status, "has withdrawn") {
		t.Errorf("%v %+v", err, list)
	}

	// It is given back, and taken by a power cut: what was said last holds.
	w.b.must("offer", "grant", w.offer, w.a1.id)
	w.a1.mustInvoke(s05Alias, put("again", 1))
	w.b.must("offer", "revoke", w.offer, w.a1.id)
	w.server.kill9()
	again := startIn(t, w.server.dir)
	if _, err := w.a1.at(again).invoke(s05Alias, put("late", 1)); !withdrawn(err) {
		t.Errorf("after a power cut: %v", err)
	}
	w.a2.at(again).mustInvoke(s05Alias, put("late", 1))
	if _, ok := w.buckets.get("a2/archive/late"); !ok {
		t.Error("A2's key did not survive")
	}
}

// Each of many calls at the time of a revocation has one clear result: it has run
// and its object is there, or it is refused and there is none.
func TestS05CallsDuringARevocationRunOrAreRefused(t *testing.T) {
	t.Parallel()
	w := newS05(t)
	w.a1.mustInvoke(s05Alias, put("warm", 1))
	var ran, refused atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("race-%d-%d", i, n)
				got, err := w.a1.invoke(s05Alias, put(name, n))
				_, stored := w.buckets.get("a1/archive/" + name)
				switch {
				case err == nil && got.functionError == "" && stored:
					ran.Add(1)
				case withdrawn(err) && !stored:
					refused.Add(1)
				default:
					t.Errorf("%s: stored %v, %+v, %v", name, stored, got, err)
				}
			}
		}()
	}
	await(t, patience, "calls run", func() bool { return ran.Load() >= 20 })
	for range 5 {
		before := refused.Load()
		w.b.must("offer", "revoke", w.offer, w.a1.id)
		await(t, patience, "calls are refused", func() bool { return refused.Load() > before+12 })
		before = ran.Load()
		w.b.must("offer", "grant", w.offer, w.a1.id)
		await(t, patience, "calls run again", func() bool { return ran.Load() > before+12 })
	}
	close(stop)
	wg.Wait()
	t.Logf("%d ran, %d were refused", ran.Load(), refused.Load())
}

func TestS05WhatDoesNotMeetTheTermsIsDeclined(t *testing.T) {
	t.Parallel()
	w := newS05(t)
	a3 := w.server.tenant("team-a3")
	set := []string{"--set", "BUCKET=a1", "--set", "KEY=k", "--set", "AT=" + w.buckets.at}
	for what, refused := range map[string]func() (string, error){
		"not granted": func() (string, error) {
			return a3.hearth(append([]string{"shared-alias", "create", "x", w.offer}, set...)...)
		},
		"missing parameter": func() (string, error) { return w.a1.hearth("shared-alias", "create", "x", w.offer) },
		"memory": func() (string, error) {
			return w.a1.hearth(append([]string{"shared-alias", "create", "x", w.offer, "--memory", "1024"}, set...)...)
		},
		"timeout": func() (string, error) {
			return w.a1.hearth(append([]string{"shared-alias", "create", "x", w.offer, "--timeout", "600"}, set...)...)
		},
		"version": func() (string, error) {
			return w.a1.hearth(append([]string{"shared-alias", "create", "x", w.offer, "--version", "prod"}, set...)...)
		},
		"network": func() (string, error) {
			return w.a1.hearth(append([]string{"shared-alias", "create", "x", w.offer, "--allow", "*:443"}, set...)...)
		},
		"own offer": func() (string, error) {
			return w.b.hearth(append([]string{"shared-alias", "create", "x", w.offer}, set...)...)
		},
		"another's offer": func() (string, error) { return w.a1.hearth("offer", "withdraw", w.offer) },
		"an alias":        func() (string, error) { return w.a1.hearth("offer", "create", s05Alias, "--public") },
	} {
		if out, err := refused(); err == nil {
			t.Errorf("%s: %s", what, out)
		}
	}
	if out := a3.must("offer", "--json"); strings.Contains(out, w.offer) {
		t.Errorf("A3 sees an offer that is not for it: %s", out)
	}
	if out := w.a1.must("offer", "--json"); strings.Contains(out, w.a2.id) {
		t.Errorf("A1 sees for whom else it is: %s", out)
	}

	// Within the bounds it is as A1 says.
	w.a1.must("shared-alias", "update", s05Alias, "--memory", "192", "--timeout", "2")
	if got := w.a1.mustInvoke(s05Alias, put("sized", 1)); !strings.Contains(got.payload, `"memory": "192"`) && !strings.Contains(got.payload, `"memory": 192`) {
		t.Errorf("%s", got.payload)
	}
	if got, err := w.a1.invoke(s05Alias, `{"do":"slow"}`); err != nil || !strings.Contains(got.payload, "timed out after 2.00 seconds") {
		t.Errorf("%v %+v", err, got)
	}
	// The owner narrows the bounds: the alias does not meet them any more.
	w.b.must("offer", "update", w.offer, "--memory", "256-512")
	if _, err := w.a1.invoke(s05Alias, put("x", 1)); code(err) != "AccessDeniedException" || !strings.Contains(err.Error(), "192") {
		t.Errorf("%v", err)
	}
	w.a1.must("shared-alias", "update", s05Alias, "--memory", "256")
	w.a1.mustInvoke(s05Alias, put("x", 1))
	// Its limits hold, and are told.
	w.b.must("offer", "update", w.offer, "--calls", "1")
	if _, err := w.a1.invoke(s05Alias, put("x", 1)); code(err) != "TooManyRequestsException" || !strings.Contains(err.Error(), "used up") {
		t.Errorf("%v", err)
	}
	if _, err := w.a1.hearth("invoke", s05Alias, put("x", 1)); err == nil || !strings.Contains(err.Error(), "what its owner allows") {
		t.Errorf("%v", err)
	}
}

func TestS05TheOwnersUpdatesReachWhoTracksThemWithoutAFailedCall(t *testing.T) {
	t.Parallel()
	w := newS05(t)
	version := func(v string) string {
		return strings.ReplaceAll(s05Code, `return {"stored"`, `return {"v": "`+v+`", "stored"`)
	}
	c := w.b.client()
	update := func(v string) {
		if _, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: ptr("archive"), ZipFile: zipOf(t, map[string]string{"index.py": version(v)})}); err != nil {
			t.Fatal(err)
		}
		w.b.waitActive("archive")
	}
	update("one")
	one, err := c.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: ptr("archive")})
	if err != nil {
		t.Fatal(err)
	}
	w.a2.must("shared-alias", "update", s05Alias, "--version", *one.Version)
	var failed, latest atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			got, err := w.a1.invoke(s05Alias, put(fmt.Sprint("u-", n), n))
			if err != nil || got.functionError != "" {
				failed.Add(1)
				t.Errorf("%v %+v", err, got)
				return
			}
			if strings.Contains(got.payload, `"v": "two"`) {
				latest.Add(1)
			}
		}
	}()
	update("two")
	await(t, patience, "A1's calls run the new code", func() bool { return latest.Load() > 3 })
	close(stop)
	<-done
	if got := w.a2.mustInvoke(s05Alias, put("pinned", 1)); !strings.Contains(got.payload, `"v": "one"`) || got.version != *one.Version {
		t.Errorf("A2 has pinned %s, and runs %s: %s", *one.Version, got.version, got.payload)
	}
	if _, err := c.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: ptr("archive"), Qualifier: one.Version}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.a2.invoke(s05Alias, put("gone", 1)); code(err) != "AccessDeniedException" || !strings.Contains(err.Error(), "has deleted version "+*one.Version) {
		t.Errorf("the version is gone: %v", err)
	}
	w.a1.mustInvoke(s05Alias, put("still", 1))
	if _, err := w.server.hearth("account", "suspend", "team-b"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.a1.invoke(s05Alias, put("suspended", 1)); code(err) != "AccessDeniedException" || !strings.Contains(err.Error(), "not active") {
		t.Errorf("the owner is suspended: %v", err)
	}
	if _, err := w.server.hearth("account", "resume", "team-b"); err != nil {
		t.Fatal(err)
	}
	w.a1.mustInvoke(s05Alias, put("resumed", 1))
	if _, err := c.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: ptr("archive")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.a1.invoke(s05Alias, put("gone", 1)); code(err) != "AccessDeniedException" || !strings.Contains(err.Error(), "has deleted the function") {
		t.Errorf("the function is gone: %v", err)
	}
	await(t, patience, "the pooled environments are gone", func() bool { return !strings.Contains(w.a1.must("ps", "--json"), s05Alias) })

	// An account that is deleted takes its aliases and offers with it.
	if _, err := w.server.hearth("account", "delete", "team-b", "--everything"); err != nil {
		t.Fatal(err)
	}
	if out := w.a1.must("offer", "--json"); strings.Contains(out, w.offer) {
		t.Errorf("an offer of a deleted account: %s", out)
	}
	if _, err := w.a1.invoke(s05Alias, put("gone", 1)); !withdrawn(err) {
		t.Errorf("%v", err)
	}
}
