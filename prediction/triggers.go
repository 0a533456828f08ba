package prediction

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/manager"
)

// Trigger is something that foretells invocations of functions: a notice from
// outside, or a run of another function.
type Trigger struct {
	Account hearth.Account `json:"account"`
	Name    string         `json:"name"`
	// Run is the function whose runs are the trigger; "" is a notice.
	Run string `json:"run,omitempty"`
	// Functions are those whose invocations it foretells.
	Functions []string `json:"functions"`
	// TokenSHA256 is of the secret with which the notice can be given by those
	// who have no credentials.
	TokenSHA256 string    `json:"tokenSha256,omitempty"`
	Created     time.Time `json:"created"`
}

func (t *Trigger) key() string { return string(t.Account) + "/" + t.Name }

// responseKey is where it is kept how a function is invoked after a trigger.
func (t *Trigger) responseKey(function string) string { return t.key() + "/" + function }

// watched is what triggers want to know, by function. Guarded by Predictor.mu.
type watched struct {
	runs    map[owner][]*Trigger // those whose runs are triggers
	targets map[owner][]string   // keys of responses
	armed   map[string]bool      // by key of a response: an order waits for its time
}

const (
	maxTriggers = 100 // of an account
	maxTargets  = 16  // of a trigger
)

var triggerName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// watch finds out what is to be watched. Called with mu held, or by Open.
func (p *Predictor) watch() {
	w := watched{runs: map[owner][]*Trigger{}, targets: map[owner][]string{}, armed: map[string]bool{}}
	for _, t := range p.triggers.Scan("", "") {
		if t.Run != "" {
			of := owner{t.Account, t.Run}
			w.runs[of] = append(w.runs[of], t)
		}
		for _, f := range t.Functions {
			to := owner{t.Account, f}
			w.targets[to] = append(w.targets[to], t.responseKey(f))
		}
	}
	p.watched = w
}

// SetTrigger makes or replaces a trigger, and returns the token of a notice,
// which can't be asked for again. It is on disk when SetTrigger returns. Errors:
// InvalidParameterValue, and ResourceNotFound for a function that is not there.
func (p *Predictor) SetTrigger(ctx context.Context, t Trigger) (token string, err error) {
	switch {
	case !triggerName.MatchString(t.Name):
		return "", hearth.Errorf(hearth.InvalidParameter, "%q is no name of a trigger: 1 to 64 letters, digits, dots, dashes and underscores.", t.Name)
	case len(t.Functions) == 0 || len(t.Functions) > maxTargets:
		return "", hearth.Errorf(hearth.InvalidParameter, "A trigger is for 1 to %d functions; name them.", maxTargets)
	case slices.Contains(t.Functions, t.Run):
		return "", hearth.Errorf(hearth.InvalidParameter, "The runs of %s can't foretell themselves.", t.Run)
	}
	for _, f := range append(slices.Clone(t.Functions), t.Run) {
		if f == "" {
			continue
		}
		if _, err := p.cfg.Functions.Resolve(ctx, t.Account, f, ""); err != nil {
			return "", err
		}
	}
	t.Created = p.cfg.Clock.Now().UTC().Round(0)
	if t.Run == "" {
		var secret [24]byte
		_, _ = rand.Read(secret[:]) // never fails
		token = base64.RawURLEncoding.EncodeToString(secret[:])
		t.TokenSHA256 = digest(token)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for key := range p.triggers.Scan(string(t.Account)+"/", "") {
		if key != t.key() {
			n++
		}
	}
	if n >= maxTriggers {
		return "", hearth.Errorf(hearth.InvalidParameter, "The account has %d triggers, which is as many as it may: remove one first.", maxTriggers)
	}
	if _, err := p.triggers.Change(ctx, t.key(), func(*Trigger) (*Trigger, error) { return &t, nil }); err != nil {
		return "", err
	}
	p.watch()
	return token, nil
}

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// RemoveTrigger removes a trigger and what was learned about it. One that is
// not there is a ResourceNotFound.
func (p *Predictor) RemoveTrigger(ctx context.Context, account hearth.Account, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.triggers.Get((&Trigger{Account: account, Name: name}).key())
	if t == nil {
		return noTrigger(name)
	}
	if _, err := p.triggers.Change(ctx, t.key(), func(*Trigger) (*Trigger, error) { return nil, nil }); err != nil {
		return err
	}
	for _, f := range t.Functions {
		p.responses.Forget(t.responseKey(f))
	}
	delete(p.buckets, t.key())
	p.watch()
	return nil
}

func noTrigger(name string) error {
	return hearth.Errorf(hearth.NotFound, "There is no trigger %s; hearth trigger ls lists those that there are.", name)
}

// Triggers are those of the account, by name.
func (p *Predictor) Triggers(account hearth.Account) (list []Trigger) {
	for _, t := range p.triggers.Scan(string(account)+"/", "") {
		list = append(list, *t)
	}
	return list
}

// FireWith is Fire for whoever has the trigger's token. Whether the token is
// wrong or there is no such trigger is not told.
func (p *Predictor) FireWith(account hearth.Account, name, token string) error {
	t := p.triggers.Get((&Trigger{Account: account, Name: name}).key())
	want := ""
	if t != nil {
		want = t.TokenSHA256
	}
	if subtle.ConstantTimeCompare([]byte(digest(token)), []byte(want)) != 1 {
		return hearth.Errorf(hearth.AccessDenied, "There is no such trigger, or that is not its token.")
	}
	return p.Fire(account, name)
}

// Fire says that a trigger has come. Errors: ResourceNotFound, and
// TooManyRequests for one that comes more often than the account's policy
// allows.
func (p *Predictor) Fire(account hearth.Account, name string) error {
	t := p.triggers.Get((&Trigger{Account: account, Name: name}).key())
	if t == nil {
		return noTrigger(name)
	}
	if t.Run != "" {
		return hearth.Errorf(hearth.InvalidParameter, "The trigger %s is the runs of %s, and needs no notice.", name, t.Run)
	}
	now := p.cfg.Clock.Now()
	p.mu.Lock()
	if !p.permit(t, now) {
		p.mu.Unlock()
		return hearth.Errorf(hearth.TooManyRequests, "The trigger %s comes more often than preTrigger.perMinute of the account's policy allows.", name)
	}
	orders := p.triggered(t, now)
	p.mu.Unlock()
	for i := range orders {
		p.arrange(&orders[i])
	}
	return nil
}

// bucket bounds how often one trigger is heeded.
type bucket struct {
	tokens float64
	at     time.Time
}

// permit reports whether a trigger may come now. Called with mu held.
func (p *Predictor) permit(t *Trigger, now time.Time) bool {
	most := float64(cmp.Or(p.cfg.Policy(t.Account, "").PreTrigger.PerMinute, defaultPerMinute))
	b := p.buckets[t.key()]
	if b == nil {
		b = &bucket{most, now}
		p.buckets[t.key()] = b
	}
	b.tokens = min(b.tokens+now.Sub(b.at).Minutes()*most, most)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// triggered takes in a trigger, and returns what is to be made ready. Called
// with mu held.
func (p *Predictor) triggered(t *Trigger, at time.Time) (orders []order) {
	if t.Run != "" && !p.permit(t, at) {
		return nil
	}
	for _, function := range t.Functions {
		policy := p.cfg.Policy(t.Account, function).PreTrigger
		if policy.Mode == "off" {
			continue
		}
		window := defaultWindow
		if policy.WindowSeconds > 0 {
			window = time.Duration(policy.WindowSeconds * float64(time.Second))
		}
		key := t.responseKey(function)
		p.responses.Of(key).Update(func(r *Response) {
			r.rewindow(window)
			r.Triggered(at)
		})
		o := order{
			account: t.Account, function: function, count: 1, key: "trigger " + t.Name, budget: policy.BudgetMiB,
			fate: func(f manager.Fate) {
				if e := p.responses.Find(key); e != nil {
					e.Update(func(r *Response) { r.fated(f) })
				}
			},
		}
		if p.forecast(t, &o, key) && !p.watched.armed[key] {
			p.watched.armed[key] = true
			again := o
			o.still = func() bool {
				delete(p.watched.armed, key)
				if !p.forecast(t, &again, key) {
					return false
				}
				o.count, o.until, o.why, o.level = again.count, again.until, again.why, again.level
				return true
			}
			orders = append(orders, o)
		}
	}
	return orders
}

// forecast fills in what is to be ready of the order's function, and reports
// whether anything is. Called with mu held.
func (p *Predictor) forecast(t *Trigger, o *order, key string) bool {
	now := p.cfg.Clock.Now()
	confidence := cmp.Or(p.cfg.Policy(o.account, o.function).PreTrigger.Confidence, defaultConfidence)
	var busy time.Duration
	if f, err := p.cfg.Functions.Resolve(context.Background(), o.account, o.function, ""); err == nil {
		busy = p.cfg.Manager.RunTime(f)
	}
	var f Forecast
	var mean float64
	p.responses.Of(key).Update(func(r *Response) {
		f, mean = r.Forecast(now, confidence, busy), r.Mean()
	})
	lead := p.coldStart(o.account, o.function, "")
	o.begin, o.until = f.Begin.Add(-lead-lead/4-20*time.Millisecond), f.Until.Add(lead+time.Second/2)
	o.why = fmt.Sprintf("%.1f invocations that the trigger %s foretells", f.Invocations, t.Name)
	o.count, o.level = f.Environments, manager.LevelContainer
	if f.Environments == 0 && f.Invocations > 0 && mean >= 0.1 {
		o.count, o.level = 1, manager.LevelCode
	}
	return o.count > 0
}

// fated notes what became of a container that was made after the trigger.
func (r *Response) fated(f manager.Fate) {
	r.Made++
	if f.Hit {
		r.Hit++
		return
	}
	r.WastedMiBSeconds += f.MiBSeconds()
}
