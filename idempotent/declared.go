package idempotent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// declaredBucket holds what is declared, by account and function.
const declaredBucket = "idempotent"

// declared is a declaration on disk: without secrets, which are sealed.
type declared struct {
	Said   hearth.Idempotence `json:"said"`
	Sealed []byte             `json:"sealed,omitempty"`
}

// maxDeclared bounds the declarations of an account.
const maxDeclared = 1000

func declaredKey(account hearth.Account, function string) string {
	return string(account) + "/" + function
}

// readDeclared makes plans of what is declared.
func (a *Avoider) readDeclared() error {
	plans := map[owner]*plan{}
	for key, d := range a.own.Scan("", "") {
		account, function := hearth.Account(key[:12]), key[13:]
		secrets, err := a.unseal(key, d)
		if err != nil {
			return fmt.Errorf("the secrets that %s depends on: %w", key, err)
		}
		p, err := a.planOf(&d.Said, secrets)
		if err != nil {
			return fmt.Errorf("what %s is declared to depend on: %w", key, err)
		}
		plans[owner{account, function}] = p
	}
	if len(plans) > 0 {
		a.plans.Store(&plans)
	}
	return nil
}

func (a *Avoider) planOf(d *hearth.Idempotence, secrets map[string]string) (*plan, error) {
	p, err := read(d, secrets)
	if err != nil {
		return nil, err
	}
	p.counts, p.serial = new(counts), a.serial.Add(1)
	return p, nil
}

func (a *Avoider) unseal(key string, d *declared) (map[string]string, error) {
	if len(d.Sealed) == 0 {
		return nil, nil
	}
	plain, err := a.cfg.Seal.Open(d.Sealed, []byte("idempotent "+key))
	if err != nil {
		return nil, err
	}
	var secrets map[string]string
	return secrets, json.Unmarshal(plain, &secrets)
}

// Set declares a function idempotent, or with nil takes that back, and drops
// its records with it. It is on disk when Set returns. A declaration that can't
// be is an InvalidParameterValue.
func (a *Avoider) Set(ctx context.Context, account hearth.Account, function string, d *hearth.Idempotence) error {
	a.setting.Lock()
	defer a.setting.Unlock()
	key := declaredKey(account, function)
	var p *plan
	var stored *declared
	if d != nil {
		secrets, err := a.withKept(key, d)
		if err != nil {
			return err
		}
		if p, err = a.planOf(d, secrets); err != nil {
			return err
		}
		if a.own.Get(key) == nil && a.declarations(account) >= maxDeclared {
			return hearth.Errorf(hearth.InvalidParameter, "The account has %d functions that are declared idempotent, which is the limit.", maxDeclared)
		}
		stored = &declared{Said: p.said}
		if len(secrets) > 0 {
			plain, err := json.Marshal(secrets)
			if err != nil {
				return err
			}
			if stored.Sealed, err = a.cfg.Seal.Seal(plain, []byte("idempotent "+key)); err != nil {
				return err
			}
		}
	}
	if _, err := a.own.Change(ctx, key, func(*declared) (*declared, error) { return stored, nil }); err != nil {
		return err
	}
	plans := map[owner]*plan{}
	if now := a.plans.Load(); now != nil {
		plans = maps.Clone(*now)
	}
	o := owner{account, function}
	if p != nil {
		if was := plans[o]; was != nil {
			p.counts = was.counts
		}
		plans[o] = p
	} else {
		delete(plans, o)
	}
	if len(plans) == 0 {
		a.plans.Store(nil)
	} else {
		a.plans.Store(&plans)
	}
	if p != nil {
		return nil
	}
	_, err := a.shelf.forget(ctx, o)
	return err
}

// withKept are the secrets of a declaration, with those that stay as they are.
func (a *Avoider) withKept(key string, d *hearth.Idempotence) (map[string]string, error) {
	var kept map[string]string
	if was := a.own.Get(key); was != nil {
		var err error
		if kept, err = a.unseal(key, was); err != nil {
			return nil, err
		}
	}
	secrets := map[string]string{}
	for name, value := range d.Secrets {
		if value == "" {
			if value = kept[name]; value == "" {
				return nil, hearth.Errorf(hearth.InvalidParameter, "secrets: %s is empty, and there is none to keep.", name)
			}
		}
		if len(value) > maxText {
			return nil, hearth.Errorf(hearth.InvalidParameter, "secrets: %s has more than %d bytes.", name, maxText)
		}
		secrets[name] = value
	}
	return secrets, nil
}

func (a *Avoider) declarations(account hearth.Account) (n int) {
	for range a.own.Scan(string(account)+"/", "") {
		n++
	}
	return n
}

// Functions are those of the account that are declared idempotent, by name.
func (a *Avoider) Functions(account hearth.Account) (names []string) {
	for key := range a.own.Scan(string(account)+"/", "") {
		names = append(names, key[13:])
	}
	return names
}

// Get is what was declared; nil if nothing was. Secrets have their names only.
func (a *Avoider) Get(account hearth.Account, function string) *hearth.Idempotence {
	p := a.plan(account, function)
	if p == nil {
		return nil
	}
	d := p.said
	for _, name := range slices.Sorted(maps.Keys(p.secrets)) {
		if d.Secrets == nil {
			d.Secrets = map[string]string{}
		}
		d.Secrets[name] = ""
	}
	return &d
}

// Forget drops the records of a function, and tells how many there were.
func (a *Avoider) Forget(ctx context.Context, account hearth.Account, function string) (int, error) {
	return a.shelf.forget(ctx, owner{account, function})
}

// counts are what became of requests. Safe for concurrent use.
type counts struct {
	recorded, joined, ran, forced, unknown, discarded atomic.Int64
	saved                                             atomic.Int64 // nanoseconds
	typical                                           atomic.Int64 // nanoseconds that a run takes in a container that has run before; 0 is not known
}

// observe takes in how long a run took, and spares tells what it spares to answer
// without one. A container's first run takes longer than the next would, so
// that it is not what is spared if that is known better.
func (c *counts) observe(took time.Duration, first bool) {
	if first {
		return
	}
	if was := c.typical.Load(); was > 0 {
		took = time.Duration(was) + (took-time.Duration(was))/8 // two at once may count as one
	}
	c.typical.Store(int64(took))
}

// firstRun tells whether an invocation was the first of its container, also of
// one that was made ahead.
func firstRun(inv *hearth.Invocation) bool {
	return inv.Placement.Path != hearth.PathReuse || inv.Placement.First
}

func (c *counts) spares(ran time.Duration, first bool) int64 {
	if typical := c.typical.Load(); first && typical > 0 {
		return min(int64(ran), typical)
	}
	return int64(ran)
}

func (a *Avoider) count(p *plan, add func(*counts)) {
	add(&a.totals)
	add(p.counts)
}

// Counts are what became of requests since the start.
type Counts struct {
	Recorded  int64 `json:"recorded"`  // answered from a record
	Joined    int64 `json:"joined"`    // answered by an equal one's run
	Ran       int64 `json:"ran"`       // run, though states were known
	Forced    int64 `json:"forced"`    // of those, because the caller insisted
	Unknown   int64 `json:"unknown"`   // run because a state was not to be had
	Discarded int64 `json:"discarded"` // results that were not recorded
	// SavedSeconds is how long environments would have worked on what was
	// answered without a run.
	SavedSeconds float64 `json:"savedSeconds"`
	Records      int     `json:"records"` // that there are now
	Bytes        int64   `json:"bytes"`   // of their payloads; of all functions, what they take on disk and in memory
}

func (c *counts) read() Counts {
	return Counts{Recorded: c.recorded.Load(), Joined: c.joined.Load(), Ran: c.ran.Load(), Forced: c.forced.Load(), Unknown: c.unknown.Load(),
		Discarded: c.discarded.Load(), SavedSeconds: time.Duration(c.saved.Load()).Seconds()}
}

// Counts are those of a function; of all functions with the function "".
func (a *Avoider) Counts(account hearth.Account, function string) Counts {
	if function == "" {
		c := a.totals.read()
		var memory, disk int64
		c.Records, memory, disk = a.shelf.totals()
		c.Bytes = memory + disk
		return c
	}
	p := a.plan(account, function)
	if p == nil {
		return Counts{}
	}
	c := p.counts.read()
	c.Records, c.Bytes = a.shelf.count(owner{account, function})
	return c
}
