package taskset

import (
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store/table"
)

func TestQuotasOfSubscriptionsAndKeys(t *testing.T) {
	h := newHarness(t)
	ctx := t.Context()
	h.img(Settings{Open: true})
	h.subscribe(alice)
	h.subscribe(bob)
	set := func(s Settings) {
		t.Helper()
		s.Open = true
		if _, err := h.Configure(ctx, owner, "img", s); err != nil {
			t.Fatal(err)
		}
	}
	set(Settings{Quota: Quota{Rate: 2, Burst: 3}})
	for range 3 {
		h.want("", alice, "img--thumb")
	}
	h.want(hearth.TooManyRequests, alice, "img--resize")
	h.want("", bob, "img--thumb")
	h.clock.Advance(500 * time.Millisecond)
	h.want("", alice, "img--thumb")
	h.want(hearth.TooManyRequests, alice, "img--thumb")

	set(Settings{Quota: Quota{Concurrency: 1}})
	inv, err := h.call(ctx, alice, "img--thumb", "")
	if err != nil {
		t.Fatal(err)
	}
	h.want(hearth.TooManyRequests, alice, "img--exif")
	h.Leave(inv)
	h.want("", alice, "img--exif")

	set(Settings{Quota: Quota{Day: 7}}) // alice has had 6
	h.want("", alice, "img--thumb")
	_, err = h.call(ctx, alice, "img--thumb", "")
	if e, ok := errors.AsType[*hearth.Error](err); !ok || e.Kind != hearth.TooManyRequests || e.RetryAfter > 12*time.Hour || e.RetryAfter < 11*time.Hour {
		t.Errorf("%v", err)
	}
	h.clock.Advance(table.SaveEvery)
	h.reopen() // a kill: the counts are there
	h.want(hearth.TooManyRequests, alice, "img--thumb")
	if err := h.Unsubscribe(ctx, alice, "img"); err != nil {
		t.Fatal(err)
	}
	h.subscribe(alice) // which does not help
	h.want(hearth.TooManyRequests, alice, "img--thumb")
	h.clock.Advance(12 * time.Hour)
	h.want("", alice, "img--thumb")
	set(Settings{Quota: Quota{Month: 8}})
	h.want(hearth.TooManyRequests, alice, "img--thumb")
	if _, err := h.Approve(ctx, owner, "img", alice, &Quota{Month: 9}); err != nil {
		t.Fatal(err)
	}
	h.want("", alice, "img--thumb")
	h.want(hearth.TooManyRequests, alice, "img--thumb")
	h.clock.Advance(4 * 24 * time.Hour) // December
	h.want("", alice, "img--thumb")

	set(Settings{Key: true, KeyQuota: Quota{Day: 1}})
	h.want(hearth.AccessDenied, bob, "img--thumb")
	k, secret, err := h.MakeKey(ctx, bob, "img", "one")
	if err != nil || k.Hash != nil {
		t.Fatal(k, err)
	}
	_, other, _ := h.MakeKey(ctx, bob, "img", "two")
	with := func(secret string) error {
		inv, err := h.call(WithKey(ctx, secret), bob, "img--thumb", "")
		if err == nil {
			h.Leave(inv)
		}
		return err
	}
	if err := with(secret); err != nil {
		t.Error(err)
	}
	if err := with(secret); hearth.KindOf(err) != hearth.TooManyRequests {
		t.Errorf("beyond the key's: %v", err)
	}
	if err := with(other); err != nil {
		t.Errorf("another key: %v", err)
	}
	if err := with("hk-guess"); hearth.KindOf(err) != hearth.AccessDenied {
		t.Errorf("a guess: %v", err)
	}
	f, err := h.Resolve(ctx, bob, "img--thumb", "")
	if err != nil {
		t.Fatal(err)
	}
	inContext := &hearth.Invocation{Function: f, ClientContext: `{"custom":{"x-api-key":"` + other + `"}}`}
	if err := h.Enter(ctx, inContext); hearth.KindOf(err) != hearth.TooManyRequests {
		t.Errorf("the key in the client context: %v", err)
	}
	// The owner's code reads the context. It has what the caller says there, and not
	// by what it could call at the caller's expense.
	for in, out := range map[string]string{
		`{"client":{"id":"x-api-key"},"custom":{"n":1.50,"x-api-key":"SECRET"}}`: `{"client":{"id":"x-api-key"},"custom":{"n":1.50}}`,
		`{"CUSTOM":{"x-api-key":"SECRET"}}`:                                      `{"CUSTOM":{}}`,
	} {
		_, secret, err := h.MakeKey(ctx, bob, "img", "")
		if err != nil {
			t.Fatal(err)
		}
		inv := &hearth.Invocation{Function: f, ClientContext: strings.ReplaceAll(in, "SECRET", secret)}
		if err := h.Enter(ctx, inv); err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		h.Leave(inv)
		if inv.ClientContext != out {
			t.Errorf("of %s the owner's code sees %s", in, inv.ClientContext)
		}
	}
	// An event that is to run later is on disk without the key, and runs by it.
	for _, name := range []string{"as a header", "in the client context"} {
		_, secret, err := h.MakeKey(ctx, bob, "img", "")
		if err != nil {
			t.Fatal(err)
		}
		event, given := &hearth.Invocation{Function: f, ClientContext: `{"custom":{}}`}, WithKey(ctx, secret)
		if name != "as a header" {
			event.ClientContext, given = `{"custom":{"x-api-key":"`+secret+`"}}`, ctx
		}
		if err := h.Accept(given, event); err != nil {
			t.Fatal(err)
		}
		if event.ClientContext != `{"custom":{}}` || len(event.APIKey) != sha256.Size {
			t.Errorf("%s: the event is %+v", name, event)
		}
		if err := h.Enter(ctx, event); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		h.Leave(event)
	}
	for name, event := range map[string]*hearth.Invocation{
		"without a key": {Function: f}, "with a guess": {Function: f, ClientContext: `{"custom":{"x-api-key":"hk-guess"}}`},
	} {
		if err := h.Accept(ctx, event); hearth.KindOf(err) != hearth.AccessDenied {
			t.Errorf("an event %s: %v", name, err)
		}
	}
	if err := h.DeleteKey(ctx, bob, "img", k.ID); err != nil {
		t.Fatal(err)
	}
	if err := with(secret); hearth.KindOf(err) != hearth.AccessDenied {
		t.Errorf("a key that was ended: %v", err)
	}
	for rec := range scan(t, h.store, subsBucket) {
		if strings.Contains(rec, secret) || strings.Contains(rec, other) {
			t.Error("a key's secret is on disk")
		}
	}
}

func TestABudgetOfProcessorTimeEndsCalls(t *testing.T) {
	h := newHarness(t)
	var mu sync.Mutex
	used := time.Duration(0)
	h.cpu = func() time.Duration { mu.Lock(); defer mu.Unlock(); return used }
	h.img(Settings{Open: true, Quota: Quota{CPUSeconds: 10}})
	h.subscribe(alice)
	h.want("", alice, "img--thumb")
	mu.Lock()
	used = 11 * time.Second
	mu.Unlock()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		h.clock.Advance(budgetEvery)
		inv, err := h.call(t.Context(), alice, "img--thumb", "")
		if hearth.KindOf(err) == hearth.TooManyRequests {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("beyond the budget: %v", err)
		}
		h.Leave(inv)
		h.looks.Wait()
	}
	h.clock.Advance(4 * 24 * time.Hour)
	mu.Lock()
	used = 0
	mu.Unlock()
	h.want("", alice, "img--thumb") // another month
}
