package bus

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/delivery"
	"github.com/hearth-faas/hearth/event/pattern"
	"github.com/hearth-faas/hearth/store"
)

// Entry is an event that is put.
type Entry struct {
	Bus        string // "" is the default one; a name or an ARN
	Source     string
	DetailType string
	Detail     string // a JSON object
	Resources  []string
	Time       time.Time // zero is now
}

// Outcome is what became of an Entry: the event's id, or why there is none.
type Outcome struct {
	ID            string
	Code, Message string
}

// Event is an event as targets see it.
type Event struct {
	Version    string          `json:"version"`
	ID         string          `json:"id"`
	DetailType string          `json:"detail-type"`
	Source     string          `json:"source"`
	Account    hearth.Account  `json:"account"`
	Time       string          `json:"time"`
	Region     string          `json:"region"`
	Resources  []string        `json:"resources"`
	Detail     json.RawMessage `json:"detail"`
}

// MaxEvents bounds the events of one request, in bytes together.
const MaxEvents = 1 << 20

// size is what an entry counts.
func (e *Entry) size() int {
	n := len(e.Source) + len(e.DetailType) + len(e.Detail)
	if !e.Time.IsZero() {
		n += 14
	}
	for _, r := range e.Resources {
		n += len(r)
	}
	return n
}

// ruleSet is a bus with its rules compiled, as of some number of changes. It
// does not change.
type ruleSet struct {
	changes uint64
	bus     *Bus
	rules   []compiled
}

type compiled struct {
	*Rule
	pattern *pattern.Pattern
}

// maxCached bounds how many buses' compiled rules are kept.
const maxCached = 1000

// rules returns the rules of a bus as they are now. Errors: ResourceNotFound.
func (b *Buses) rules(r store.Reader, account hearth.Account, name string) (*ruleSet, error) {
	n, err := changes(r, account, name)
	if err != nil {
		return nil, err
	}
	k := busKey(account, name)
	b.mu.Lock()
	set := b.cached[k]
	b.mu.Unlock()
	if set != nil && set.changes == n {
		return set, nil
	}
	set = &ruleSet{changes: n}
	if set.bus, err = b.busOf(r, account, name); err != nil {
		return nil, err
	}
	list, _, err := scan(r, rulesBucket, ruleKey(account, name, ""), "", MaxRules, func(r *Rule) bool { return r.Enabled() && r.Pattern != "" && len(r.Targets) > 0 })
	if err != nil {
		return nil, err
	}
	for _, rule := range list {
		p, err := pattern.Compile(rule.Pattern)
		if err != nil {
			return nil, err // it was in order when it came in
		}
		set.rules = append(set.rules, compiled{rule, p})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.cached) >= maxCached {
		clear(b.cached)
	}
	b.cached[k] = set
	return set, nil
}

// matched returns what an event comes to by a set of rules.
func (b *Buses) matches(set *ruleSet, event []byte, hops int, now time.Time) (ds []delivery.Delivery, err error) {
	for _, r := range set.rules {
		ok, err := r.pattern.Match(event)
		if err != nil {
			return nil, err
		}
		if ok {
			more, err := b.deliveries(r.Rule, set.bus, event, hops, now)
			if err != nil {
				return nil, err
			}
			ds = append(ds, more...)
		}
	}
	return ds, nil
}

// deliveries are what a rule has for its targets of an event.
func (b *Buses) deliveries(r *Rule, bus *Bus, event []byte, hops int, now time.Time) (ds []delivery.Delivery, err error) {
	for i := range r.Targets {
		t := &r.Targets[i]
		payload, err := t.input(r, event, now)
		if err != nil {
			return nil, err
		}
		ds = append(ds, delivery.Delivery{
			Account: r.Account, Origin: r.ARN(), Target: t.ARN, GroupID: t.GroupID, Hops: hops,
			Caller: hearth.Identity{Service: "events.amazonaws.com"}, Policy: t.policy(bus),
			Letter: map[string]string{"RULE_ARN": r.ARN()}, Payload: payload,
		})
	}
	return ds, nil
}

// errChanged is that rules were changed between match and commit.
var errChanged = errors.New("the rules were changed meanwhile")

// Put puts events on buses of an account. What they come to is on disk when it
// returns. What is wrong with one is its Outcome; the others are put. Errors:
// Validation for too many or too large ones, Service.
func (b *Buses) Put(ctx context.Context, account hearth.Account, entries []Entry) ([]Outcome, error) {
	if len(entries) == 0 || len(entries) > 10 {
		return nil, invalid("1 validation error detected: Value at 'entries' failed to satisfy constraint: Member must have between 1 and 10 items")
	}
	size := 0
	for i := range entries {
		size += entries[i].size()
	}
	if size > MaxEvents {
		return nil, invalid("Total size of the entries in the request is over the limit.")
	}
	now := b.now()
	outcomes := make([]Outcome, len(entries))
	var events []incoming
	for i := range entries {
		name, event, o := b.event(account, &entries[i], now)
		if outcomes[i] = o; o.Code == "" {
			events = append(events, incoming{bus: name, event: event, entry: i})
		}
	}
	for {
		missing, n, err := b.accept(ctx, account, events, now)
		switch {
		case errors.Is(err, errChanged):
			continue
		case err != nil:
			return nil, stored("Put", err)
		}
		for i, name := range missing {
			outcomes[i] = Outcome{Code: string(hearth.NotFound), Message: "Event bus " + name + " does not exist."}
		}
		for _, in := range events {
			if missing[in.entry] == "" {
				b.show(account, in.bus, in.event)
			}
		}
		b.put.Add(uint64(len(events) - len(missing)))
		if n > 0 {
			b.matched.Add(uint64(n))
			b.cfg.Queue.Wake()
		}
		return outcomes, nil
	}
}

// incoming is an event for a bus.
type incoming struct {
	bus   string
	event []byte
	entry int
}

// accept matches events and stores what they come to: n deliveries. missing
// are the entries whose bus is not there.
func (b *Buses) accept(ctx context.Context, account hearth.Account, events []incoming, now time.Time) (missing map[int]string, n int, _ error) {
	sets := map[string]*ruleSet{}
	missing = map[int]string{}
	// Rules that are at hand are most often those that hold, which the
	// transaction finds out. If there is none, they are looked up.
	if !b.atHand(account, events, sets) {
		if err := b.lookUp(ctx, account, events, sets); err != nil {
			return nil, 0, err
		}
	}
	ds, err := b.allMatches(events, sets, missing, now)
	if err == nil && len(ds) == 0 {
		clear(missing)
		if err = b.lookUp(ctx, account, events, sets); err == nil {
			ds, err = b.allMatches(events, sets, missing, now)
		}
	}
	if err != nil || len(ds) == 0 {
		return missing, 0, err
	}
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		for name, set := range sets {
			if err := b.hold(tx, account, name, set); err != nil {
				return err
			}
		}
		for _, d := range ds {
			if err := b.cfg.Queue.Put(tx, d, now); err != nil {
				return err
			}
		}
		return nil
	})
	return missing, len(ds), err
}

// hold tells whether a set of rules is that of now: errChanged if it is not,
// and then it is forgotten. A nil set is of a bus that is not there.
func (b *Buses) hold(r store.Reader, account hearth.Account, name string, set *ruleSet) error {
	if set == nil {
		return nil
	}
	n, err := changes(r, account, name)
	if err != nil || n == set.changes {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if k := busKey(account, name); b.cached[k] == set {
		delete(b.cached, k)
	}
	return errChanged
}

// atHand takes the rules of the events' buses from memory, which may not hold
// any more; false if some are not there.
func (b *Buses) atHand(account hearth.Account, events []incoming, sets map[string]*ruleSet) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, in := range events {
		set := b.cached[busKey(account, in.bus)]
		if set == nil {
			return false
		}
		sets[in.bus] = set
	}
	return true
}

// lookUp reads the rules of the events' buses; nil for a bus that is not there.
func (b *Buses) lookUp(ctx context.Context, account hearth.Account, events []incoming, sets map[string]*ruleSet) error {
	return b.cfg.Store.View(ctx, func(r store.Reader) error {
		for _, in := range events {
			set, err := b.rules(r, account, in.bus)
			if err != nil && hearth.KindOf(err) != hearth.NotFound {
				return err
			}
			sets[in.bus] = set
		}
		return nil
	})
}

// allMatches are what events come to, and those whose bus is not there.
func (b *Buses) allMatches(events []incoming, sets map[string]*ruleSet, missing map[int]string, now time.Time) (ds []delivery.Delivery, _ error) {
	for _, in := range events {
		set := sets[in.bus]
		if set == nil {
			missing[in.entry] = in.bus
			continue
		}
		more, err := b.matches(set, in.event, 0, now)
		if err != nil {
			return nil, err
		}
		ds = append(ds, more...)
	}
	return ds, nil
}

// event checks an entry and returns the event.
func (b *Buses) event(account hearth.Account, e *Entry, now time.Time) (name string, event []byte, o Outcome) {
	refuse := func(code, message string) (string, []byte, Outcome) {
		return "", nil, Outcome{Code: code, Message: message}
	}
	name, err := b.NameOf(account, e.Bus)
	switch {
	case err != nil:
		message := err.Error()
		if e, ok := errors.AsType[*hearth.Error](err); ok {
			message = e.Message
		}
		return refuse(string(hearth.KindOf(err)), message)
	case e.Source == "":
		return refuse("InvalidArgument", "Parameter Source is not valid. Reason: Source is a required argument.")
	case strings.HasPrefix(e.Source, "aws."):
		return refuse("NotAuthorizedForSourceException", "Not authorized for the source.")
	case e.DetailType == "":
		return refuse("InvalidArgument", "Parameter DetailType is not valid. Reason: DetailType is a required argument.")
	case len(e.DetailType) > 128:
		return refuse("InvalidArgument", "Parameter DetailType is not valid. Reason: it has more than 128 characters.")
	case e.Detail == "":
		return refuse("InvalidArgument", "Parameter Detail is not valid. Reason: Detail is a required argument.")
	case !json.Valid([]byte(e.Detail)) || strings.TrimLeft(e.Detail, " \t\r\n")[0] != '{':
		return refuse("MalformedDetail", "Detail is malformed.")
	}
	at := e.Time
	if at.IsZero() {
		at = now
	}
	id := uuid.NewString()
	event, err = json.Marshal(Event{
		Version: "0", ID: id, DetailType: e.DetailType, Source: e.Source, Account: account, Time: at.UTC().Format("2006-01-02T15:04:05Z"),
		Region: b.cfg.Region, Resources: append([]string{}, e.Resources...), Detail: json.RawMessage(e.Detail),
	})
	if err != nil {
		return refuse("MalformedDetail", "Detail is malformed.")
	}
	return name, event, Outcome{ID: id}
}
