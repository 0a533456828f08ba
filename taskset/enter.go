package taskset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// bucket holds calls to a rate.
type bucket struct {
	tokens float64
	filled time.Time
}

// counts are the calls of a day and a month, of universal time.
type counts struct {
	Counts
	dirty bool
}

// keyLive is what of a key outlives a change.
type keyLive struct {
	bucket bucket
	counts counts
}

// budget is what a subscription has used of its processor time, as far as is
// known: it is looked at now and then, beside the calls.
type budget struct {
	used    time.Duration
	month   string
	at      time.Time
	looking bool
}

// budgetEvery is how often a budget is looked at while calls come. What is
// metered lags behind by a few seconds more.
const budgetEvery = 2 * time.Second

func countsOf(c *Counts) counts {
	if c == nil {
		return counts{}
	}
	return counts{Counts: *c}
}

// turn begins a new day or month, if it is one.
func (c *counts) turn(at time.Time) {
	day := at.UTC().Format("2006-01-02")
	if c.Day != day {
		c.Day, c.DayCalls = day, 0
	}
	if month := day[:len("2006-01")]; c.Month != month {
		c.Month, c.MonthCalls = month, 0
	}
}

func (c *counts) add() {
	c.DayCalls++
	c.MonthCalls++
	c.dirty = true
}

// over tells what of a quota refuses a call now; nil is nothing. It takes a
// token if a rate is what is left to ask.
func (q *Quota) over(whose string, running int, b *bucket, c *counts, at time.Time) error {
	refuse := func(reason string, after time.Duration, what string) error {
		return &hearth.Error{Op: "taskset.Enter", Kind: hearth.TooManyRequests, Message: "Rate Exceeded. " + whose + " allows " + what + ".", Reason: reason, RetryAfter: after}
	}
	y, m, d := at.UTC().Date()
	switch {
	case q.Day > 0 && c.DayCalls >= q.Day:
		return refuse(hearth.ReasonReservedRate, time.Date(y, m, d+1, 0, 0, 0, 0, time.UTC).Sub(at), strconv.FormatInt(q.Day, 10)+" calls a day")
	case q.Month > 0 && c.MonthCalls >= q.Month:
		return refuse(hearth.ReasonReservedRate, time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC).Sub(at), strconv.FormatInt(q.Month, 10)+" calls a month")
	case q.Concurrency > 0 && running >= q.Concurrency:
		return refuse(hearth.ReasonReservedConcurrency, 0, strconv.Itoa(q.Concurrency)+" calls at a time")
	}
	if q.Rate == 0 {
		return nil
	}
	most := max(q.Rate, 1)
	if q.Burst > 0 {
		most = float64(q.Burst)
	}
	if b.filled.IsZero() {
		b.tokens = most
	} else {
		b.tokens = min(most, b.tokens+q.Rate*at.Sub(b.filled).Seconds())
	}
	b.filled = at
	if b.tokens < 1 {
		return refuse(hearth.ReasonReservedRate, time.Duration((1-b.tokens)/q.Rate*float64(time.Second)), strconv.FormatFloat(q.Rate, 'g', -1, 64)+" calls a second")
	}
	b.tokens--
	return nil
}

// presented is the context's key for the secret that a call comes with.
type presented struct{}

// WithKey is ctx for a call that comes with an API key's secret.
func WithKey(ctx context.Context, secret string) context.Context {
	return context.WithValue(ctx, presented{}, secret)
}

// contextKey is the field of the client context's custom part that an API key's
// secret may be in, where a client has no other way to give it.
const contextKey = "x-api-key"

// secretOf is the API key's secret that a call comes with, "" if with none.
func secretOf(ctx context.Context, inv *hearth.Invocation) string {
	if s, ok := ctx.Value(presented{}).(string); ok {
		return s
	}
	if !strings.Contains(inv.ClientContext, contextKey) {
		return ""
	}
	var c struct {
		Custom map[string]any `json:"custom"`
	}
	if json.Unmarshal([]byte(inv.ClientContext), &c) != nil {
		return ""
	}
	secret, _ := c.Custom[contextKey].(string)
	return secret
}

// withoutSecret is a client context without an API key's secret, by which the
// owner, whose code reads the context, could call at the subscriber's expense.
// Errors: InvalidContent.
func withoutSecret(context string) (string, error) {
	if !strings.Contains(context, contextKey) {
		return context, nil
	}
	var outer map[string]json.RawMessage
	if err := json.Unmarshal([]byte(context), &outer); err != nil {
		return "", hearth.Errorf(hearth.InvalidContent, "The client context is no JSON object.")
	}
	for name, part := range outer {
		var custom map[string]json.RawMessage
		if !strings.EqualFold(name, "custom") || json.Unmarshal(part, &custom) != nil {
			continue
		}
		delete(custom, contextKey)
		part, err := json.Marshal(custom)
		if err != nil {
			return "", err
		}
		outer[name] = part
	}
	b, err := json.Marshal(outer)
	return string(b), err
}

// hashOf is the hash of the API key that a call comes with, nil if with none.
func hashOf(ctx context.Context, inv *hearth.Invocation) []byte {
	if inv.APIKey != nil {
		return inv.APIKey
	}
	secret := secretOf(ctx, inv)
	if secret == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// withKey is the subscription that a key is of, and the key; nil is none.
func (st *state) withKey(secret string) (*sub, *Key) {
	sum := sha256.Sum256([]byte(secret))
	u := st.keys[sum]
	if u == nil {
		return nil, nil
	}
	return u, u.find(sum[:])
}

// find is the key of a subscription with the hash.
func (u *sub) find(hash []byte) *Key {
	for i := range u.Keys {
		if bytes.Equal(u.Keys[i].Hash, hash) {
			return &u.Keys[i]
		}
	}
	return nil
}

// Accept has a call whose Function is one that Resolve derived run later, when
// Enter is asked: of its API key it keeps the hash alone, since an event is on
// disk until it has run, and takes the key out of the client context. Errors:
// AccessDenied as of Enter, and InvalidContent.
func (s *Sets) Accept(ctx context.Context, inv *hearth.Invocation) error {
	u, err := s.state.Load().of(inv.Function)
	if err != nil {
		return err
	}
	hash := hashOf(ctx, inv)
	if _, err := u.admit(hash); err != nil {
		return err
	}
	shown, err := withoutSecret(inv.ClientContext)
	if err != nil {
		return err
	}
	inv.APIKey, inv.ClientContext = hash, shown
	return nil
}

// of is the subscription of a Function that Resolve derived.
func (st *state) of(f *hearth.Function) (*sub, error) {
	alias, _, _ := strings.Cut(f.Name, Separator)
	u := st.subs[key{f.Account, alias}]
	if u == nil || u.ID != f.Shared.Subscription {
		return nil, hearth.Errorf(hearth.AccessDenied, "The account %s has left the task API %s.", f.Account, f.Shared.API)
	}
	return u, nil
}

// Enter lets a call in whose Function is one that Resolve derived, or refuses
// it: with what Resolve says now, AccessDenied without a key where one is needed
// or with one that is none, and TooManyRequests beyond the quotas. It sets
// inv.Function to what the set has now. A call that is let in runs to its end,
// whatever changes meanwhile; then Leave is to follow, once. A key in the client
// context is taken out of it.
func (s *Sets) Enter(ctx context.Context, inv *hearth.Invocation) error {
	for range 16 {
		x := inv.Function
		st := s.state.Load()
		u, err := st.of(x)
		if err != nil {
			return err
		}
		_, task, _ := strings.Cut(x.Name, Separator)
		fresh, err := s.resolve(ctx, st, u, task, x.Shared.Stage)
		if err != nil {
			return err
		}
		k, err := u.admit(hashOf(ctx, inv))
		if err != nil {
			return err
		}
		shown, err := withoutSecret(inv.ClientContext)
		if err != nil {
			return err
		}
		l := u.live
		l.mu.Lock()
		if s.state.Load() != st {
			l.mu.Unlock()
			continue // it was changed just now
		}
		err = s.take(l, u, k)
		l.mu.Unlock()
		if err != nil {
			return err
		}
		s.saver.Soon()
		inv.Function, inv.ClientContext = fresh, shown
		return nil
	}
	return hearth.Errorf(hearth.TooManyRequests, "The task API %s is being changed again and again: try again.", inv.Function.Shared.API)
}

// admit finds the key of a call; nil is that it needs none and has none.
func (u *sub) admit(hash []byte) (*Key, error) {
	switch {
	case hash != nil:
		if k := u.find(hash); k != nil {
			return k, nil
		}
		return nil, hearth.Errorf(hearth.AccessDenied, "The API key is none of the subscription %s.", u.Alias)
	case u.api.Key:
		return nil, hearth.Errorf(hearth.AccessDenied, "The task API %s needs an API key: give it as the header X-Api-Key, or in the client context as custom.%s. Make one with: hearth tasks key create %s", u.API, contextKey, u.Alias)
	}
	return nil, nil
}

// take counts a call, if the quotas let it in. l.mu is held.
func (s *Sets) take(l *live, u *sub, k *Key) error {
	at := s.cfg.Clock.Now()
	l.counts.turn(at)
	quota := &u.api.Quota
	if u.Quota != nil {
		quota = u.Quota
	}
	if err := s.inBudget(l, u, quota, at); err != nil {
		return err
	}
	var kl *keyLive
	if k != nil {
		if kl = l.keys[k.ID]; kl == nil {
			kl = &keyLive{counts: countsOf(s.counts.Get(k.ID))}
			l.keys[k.ID] = kl
		}
		kl.counts.turn(at)
		if err := u.api.KeyQuota.over("The API key", 0, &kl.bucket, &kl.counts, at); err != nil {
			return err
		}
	}
	if err := quota.over("The task API "+u.API, l.running, &l.bucket, &l.counts, at); err != nil {
		return err
	}
	if kl != nil {
		kl.counts.add()
	}
	l.running++
	l.counts.add()
	return nil
}

// inBudget tells whether there is processor time left, as far as is known, and
// has it looked at again if that is some time ago. l.mu is held.
func (s *Sets) inBudget(l *live, u *sub, q *Quota, at time.Time) error {
	if q.CPUSeconds == 0 || s.cfg.CPU == nil {
		return nil
	}
	month := at.UTC().Format("2006-01")
	if !l.cpu.looking && (l.cpu.month != month || at.Sub(l.cpu.at) >= budgetEvery) {
		l.cpu.looking = true
		s.looks.Go(func() { s.lookAtBudget(l, u, month) })
	}
	if l.cpu.month == month && l.cpu.used.Seconds() >= q.CPUSeconds {
		y, m, _ := at.UTC().Date()
		return &hearth.Error{Op: "taskset.Enter", Kind: hearth.TooManyRequests, Reason: hearth.ReasonReservedRate, RetryAfter: time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC).Sub(at),
			Message: "Rate Exceeded. The task API " + u.API + " allows " + strconv.FormatFloat(q.CPUSeconds, 'g', -1, 64) + " seconds of processor time a month."}
	}
	return nil
}

func (s *Sets) lookAtBudget(l *live, u *sub, month string) {
	used, err := s.cfg.CPU(context.Background(), u.Account, u.Owner, u.API)
	if err != nil {
		s.cfg.Log.Error("what a subscription has used can't be found out; its budget goes by what was known", "account", u.Account, "api", u.API, "error", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cpu.looking, l.cpu.at = false, s.cfg.Clock.Now()
	if err == nil {
		l.cpu.used, l.cpu.month = used, month
	}
}

// Leave takes note of the end of a call that Enter let in.
func (s *Sets) Leave(inv *hearth.Invocation) {
	x := inv.Function.Shared
	s.mu.Lock()
	l := s.lives[lifeOf(x.Offer, inv.Function.Account)]
	s.mu.Unlock()
	if l == nil {
		return // the account has left meanwhile
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
}
