package e2e

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

// What the base must decline to do.

// deployTenants gives both accounts their functions.
func deployTenants(m *machine) {
	for _, account := range s00Accounts {
		for _, f := range tenantFunctions(m.t, account) {
			m.deploy(account, f)
		}
	}
}

// outcome is what became of one request.
type outcome struct {
	inv    *hearth.Invocation
	answer tenantAnswer
	err    error
}

// ask invokes the account's python function.
func (m *machine) ask(account hearth.Account, event tenantEvent) outcome {
	m.t.Helper()
	event.Nonce = "x"
	payload, err := json.Marshal(event)
	if err != nil {
		m.t.Fatal(err)
	}
	inv, r, err := m.invoke(account, "python", payload)
	o := outcome{inv: inv, err: err}
	if err == nil {
		if r.FunctionError != "" {
			o.err = errors.New(string(r.Payload))
		} else if err := json.Unmarshal(r.Payload, &o.answer); err != nil {
			o.err = err
		}
	}
	return o
}

// recordOf is the one record of a request.
func (m *machine) recordOf(inv *hearth.Invocation) hearth.Decision {
	m.t.Helper()
	found, err := m.decisions.Explain(inv.RequestID)
	if err != nil || len(found) != 1 {
		m.t.Fatalf("request %s has the records %+v, %v", inv.RequestID, found, err)
	}
	return found[0]
}

// refused demands that a request was throttled for the concurrency of its
// account, and that the record says so.
func (m *machine) refused(o outcome) hearth.Decision {
	m.t.Helper()
	var e *hearth.Error
	if !errors.As(o.err, &e) || e.Kind != hearth.TooManyRequests || e.Reason != hearth.ReasonConcurrency || e.Kind.Status() != 429 {
		m.t.Errorf("the request was not throttled as it should be: %v", o.err)
	}
	d := m.recordOf(o.inv)
	if d.Kind != hearth.DecisionRefuse || d.Outcome != string(hearth.TooManyRequests) || d.Container != "" || d.Instance != "" {
		m.t.Errorf("the record says %+v", d)
	}
	return d
}

func TestS00DeclinesBeyondTheConcurrencyOfTheAccount(t *testing.T) {
	t.Parallel()
	const limit = 4
	m := newMachine(t, capacity{memoryMiB: 8192, instanceMiB: 2048, poolMiB: 256, concurrency: limit})
	deployTenants(m)
	a, b := s00Accounts[0], s00Accounts[1]
	var running sync.WaitGroup
	for range limit {
		running.Go(func() {
			if o := m.ask(a, tenantEvent{SleepMs: 6000}); o.err != nil {
				t.Error(o.err)
			}
		})
	}
	await(t, patience, "the account to be at its limit", func() bool { return m.frontend.InFlight() == limit })
	for range 5 {
		if d := m.refused(m.ask(a, tenantEvent{})); d.Why != "the account had as many invocations at once as it may have" {
			t.Errorf("it was refused because %s", d.Why)
		}
	}
	if o := m.ask(b, tenantEvent{}); o.err != nil {
		t.Errorf("the other account, meanwhile: %v", o.err)
	}
	running.Wait()
	if o := m.ask(a, tenantEvent{}); o.err != nil {
		t.Errorf("the account, afterwards: %v", o.err)
	}
}

func TestS00SharesNoInstanceBetweenAccountsEvenIfTheMachineIsFull(t *testing.T) {
	t.Parallel()
	// Room for two containers on the machine, for eight in an instance.
	m := newMachine(t, capacity{memoryMiB: 1024, instanceMiB: 4096, poolMiB: 256, queueWait: 500 * time.Millisecond})
	deployTenants(m)
	a, b := s00Accounts[0], s00Accounts[1]
	var running sync.WaitGroup
	var mu sync.Mutex
	ofA := map[string]bool{} // instances
	for range 2 {
		running.Go(func() {
			o := m.ask(a, tenantEvent{SleepMs: 8000})
			if o.err != nil {
				t.Error(o.err)
			}
			mu.Lock()
			defer mu.Unlock()
			ofA[o.inv.Placement.Instance] = true
		})
	}
	await(t, patience, "the machine to be full", func() bool {
		s := m.manager.Stats()
		return s.CommittedMiB == 1024 && s.Waiting == 0
	})
	d := m.refused(m.ask(b, tenantEvent{}))
	if d.Knew.FreeMiB != 0 || d.Knew.Committed != 1024 {
		t.Errorf("it was refused though the machine had room: %+v", d)
	}
	running.Wait()
	// Now the first account's containers have nothing to do: one of them has
	// to go, and the second account gets an instance of its own.
	o := m.ask(b, tenantEvent{Probe: true})
	if o.err != nil {
		t.Fatal(o.err)
	}
	if ofA[o.inv.Placement.Instance] {
		t.Errorf("instance %s served both accounts", o.inv.Placement.Instance)
	}
	for secret, places := range o.answer.Found {
		if secret != "secret-of-"+string(b) {
			t.Errorf("the second account finds %s in %q", secret, places)
		}
	}
	evicted := false
	for _, d := range m.records() {
		if d.Kind == hearth.DecisionEvict && d.Account == a {
			evicted = true
		}
	}
	if !evicted {
		t.Error("no record tells that the first account's container had to go")
	}
	if s := m.manager.Stats(); s.CommittedMiB > 1024 {
		t.Errorf("%d MiB of 1024 are promised", s.CommittedMiB)
	}
}

func TestS00CodeIsFetchedOnceForAllContainersOfAnInstance(t *testing.T) {
	t.Parallel()
	// The node keeps no code that nobody uses, so that it is fetched again
	// for the first container after its preparation, and for no other.
	m := newMachine(t, capacity{memoryMiB: 8192, instanceMiB: 8192, codeCacheBytes: 1})
	f := m.deploy(s00Accounts[0], tenantFunctions(t, s00Accounts[0])[2])
	if n := m.fetches(f.Package.SHA256); n != 1 {
		t.Errorf("to be made ready the package was fetched %d times", n)
	}
	containers, instances := map[string]bool{}, map[string]bool{}
	var mu sync.Mutex
	ask := func(ms int) {
		o := m.ask(s00Accounts[0], tenantEvent{SleepMs: ms})
		if o.err != nil {
			t.Error(o.err)
		}
		mu.Lock()
		defer mu.Unlock()
		containers[o.inv.Placement.Container], instances[o.inv.Placement.Instance] = true, true
	}
	ask(0)
	var at sync.WaitGroup
	for range 4 {
		at.Go(func() { ask(1500) })
	}
	at.Wait()
	if len(instances) != 1 || len(containers) < 2 {
		t.Errorf("the requests were served by %d containers in %d instances", len(containers), len(instances))
	}
	if n := m.fetches(f.Package.SHA256); n != 2 {
		t.Errorf("for %d containers in one instance the package was fetched %d times", len(containers), n-1)
	}
}
