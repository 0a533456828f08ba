package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/delivery"
	"github.com/hearth-faas/hearth/schedule"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/tags"
)

// The buckets: account/bus → Bus, account/bus|rule → Rule, and account/bus →
// how often its rules were changed.
const (
	busesBucket   = "eventBuses"
	rulesBucket   = "eventRules"
	changesBucket = "eventRuleChanges"
)

// Kind is what the Timers know rules as.
const Kind = "rule"

// Config is what Buses work with. All but those with a default is required.
type Config struct {
	Store   store.Store
	Clock   hearth.Clock
	Region  string
	Timers  *schedule.Timers
	Queue   *delivery.Queue
	CatchUp schedule.CatchUp // of rules with a schedule; "" is Last
	// Role tells whether EventBridge may take on the role of a rule or target;
	// nil lets every role pass.
	Role func(account hearth.Account, role, rule string) error
	Log  *slog.Logger // nil is slog.Default
}

// Buses are the event buses. What was acknowledged is on disk. Safe for
// concurrent use, also by several servers on one store.
type Buses struct {
	cfg Config

	mu     sync.Mutex
	cached map[string]*ruleSet // by account/bus

	watchers watchers

	put, matched, fired atomic.Uint64
}

// New makes Buses, whose rules with schedules the Timers fire from then on.
func New(cfg Config) *Buses {
	cfg.CatchUp = cmp.Or(cfg.CatchUp, schedule.Last)
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	b := &Buses{cfg: cfg, cached: map[string]*ruleSet{}}
	cfg.Timers.Handle(Kind, b.fire)
	return b
}

// Counts tell how many events were put since the start, how many deliveries
// they came to, and how often rules were fired by their schedules.
func (b *Buses) Counts() (put, matched, fired uint64) {
	return b.put.Load(), b.matched.Load(), b.fired.Load()
}

func busKey(account hearth.Account, bus string) string { return string(account) + "/" + bus }

// ruleKey has a sign between bus and rule that neither's name can have.
func ruleKey(account hearth.Account, bus, rule string) string {
	return busKey(account, bus) + "|" + rule
}

func stored(op string, err error) error {
	if _, ok := errors.AsType[*hearth.Error](err); err == nil || ok {
		return err
	}
	e := &hearth.Error{Op: "bus." + op, Kind: hearth.Service, Message: "An internal error occurred.", Err: err}
	if errors.Is(err, store.ErrFull) {
		e.Message = "It could not be stored: the server's disk is full."
	}
	return e
}

func get[T any](r store.Reader, bucket, key string) (*T, error) {
	data, ok, err := r.Get(bucket, key)
	if err != nil || !ok {
		return nil, err
	}
	return decode[T](bucket, key, data)
}

func decode[T any](bucket, key string, data []byte) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("the record %s of %s is damaged: %w", key, bucket, err)
	}
	return v, nil
}

func put(tx store.Tx, bucket, key string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Put(bucket, key, data)
}

// scan reads the records after a key that fit, at most max; last is where the
// next page begins, "" if there is none.
func scan[T any](r store.Reader, bucket, prefix, after string, max int, fits func(*T) bool) (list []*T, last string, err error) {
	key := ""
	for rec, err := range r.Scan(bucket, prefix, after) {
		if err != nil {
			return nil, "", err
		}
		v, err := decode[T](bucket, rec.Key, rec.Value)
		if err != nil {
			return nil, "", err
		}
		if fits != nil && !fits(v) {
			continue
		}
		if len(list) == max {
			return list, key, nil
		}
		list, key = append(list, v), rec.Key
	}
	return list, "", nil
}

func noBus(name string) error {
	return hearth.Errorf(hearth.NotFound, "Event bus %s does not exist.", name)
}

// busOf reads a bus. Errors: ResourceNotFound.
func (b *Buses) busOf(r store.Reader, account hearth.Account, name string) (*Bus, error) {
	bus, err := get[Bus](r, busesBucket, busKey(account, name))
	switch {
	case err != nil || bus != nil:
		return bus, err
	case name == DefaultBus:
		return &Bus{Account: account, Name: name, Region: b.cfg.Region}, nil
	}
	return nil, noBus(name)
}

// NameOf is the name in what a request calls a bus: a name or an ARN of the
// account's, or nothing for the default one. Errors: Validation, AccessDenied
// for another account's.
func (b *Buses) NameOf(account hearth.Account, given string) (string, error) {
	name := cmp.Or(given, DefaultBus)
	if rest, ok := strings.CutPrefix(given, "arn:"); ok {
		parts := strings.SplitN(rest, ":", 5)
		if len(parts) != 5 || parts[1] != "events" || !strings.HasPrefix(parts[4], "event-bus/") {
			return "", invalid("Parameter EventBusName is not valid: %.200s", given)
		}
		if parts[3] != string(account) {
			return "", hearth.Errorf(hearth.AccessDenied, "The event bus %.200s is of another account, which has not let account %s use it.", given, account)
		}
		name = strings.TrimPrefix(parts[4], "event-bus/")
	}
	if !busName.MatchString(name) {
		return "", invalid("Parameter EventBusName is not valid: %.200s", given)
	}
	return name, nil
}

func (b *Buses) now() time.Time { return b.cfg.Clock.Now().UTC().Truncate(time.Millisecond) }

// CreateBus makes a bus. Errors: Validation, ResourceAlreadyExists,
// LimitExceeded.
func (b *Buses) CreateBus(ctx context.Context, n Bus) (*Bus, error) {
	switch {
	case !busName.MatchString(n.Name) || strings.Contains(n.Name, "/"):
		return nil, invalid(`Value '%.80s' at 'name' failed to satisfy constraint: a bus's name has letters, digits and . - _`, n.Name)
	case n.DeadLetter != "" && !queueARN.MatchString(n.DeadLetter):
		return nil, invalid("Parameter DeadLetterConfig.Arn must be the ARN of an SQS queue.")
	}
	if err := tags.Check(n.Tags); err != nil {
		return nil, invalid("%s", err)
	}
	n.Region, n.Created = b.cfg.Region, b.now()
	n.Modified = n.Created
	k := busKey(n.Account, n.Name)
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		old, err := get[Bus](tx, busesBucket, k)
		if err != nil {
			return err
		}
		if old != nil || n.Name == DefaultBus {
			return hearth.Errorf(hearth.AlreadyExists, "Event bus %s already exists.", n.Name)
		}
		others, _, err := scan[Bus](tx, busesBucket, busKey(n.Account, ""), "", MaxBuses, nil)
		if err != nil {
			return err
		}
		if len(others) == MaxBuses {
			return hearth.Errorf(hearth.LimitExceeded, "The requested resource exceeds the maximum number allowed: an account can have %d event buses.", MaxBuses)
		}
		return put(tx, busesBucket, k, &n)
	})
	return &n, stored("CreateBus", err)
}

// ChangeBus changes a bus; the default one too. Errors: ResourceNotFound, and
// those of change.
func (b *Buses) ChangeBus(ctx context.Context, account hearth.Account, name string, change func(*Bus) error) (bus *Bus, err error) {
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if bus, err = b.busOf(tx, account, name); err != nil {
			return err
		}
		if err := change(bus); err != nil {
			return err
		}
		bus.Modified = b.now()
		if err := put(tx, busesBucket, busKey(account, name), bus); err != nil {
			return err
		}
		return changed(tx, account, name)
	})
	return bus, stored("ChangeBus", err)
}

// DeleteBus removes a bus; that there is none is no error. Errors: Validation
// for the default one and one that has rules.
func (b *Buses) DeleteBus(ctx context.Context, account hearth.Account, name string) error {
	if name == DefaultBus {
		return invalid("Cannot delete event bus default.")
	}
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		rules, _, err := scan[Rule](tx, rulesBucket, ruleKey(account, name, ""), "", 1, nil)
		if err != nil {
			return err
		}
		if len(rules) > 0 {
			return invalid("Event bus %s can't be deleted since it has rules: delete those first.", name)
		}
		if err := tx.Delete(busesBucket, busKey(account, name)); err != nil {
			return err
		}
		return changed(tx, account, name)
	})
	return stored("DeleteBus", err)
}

// Bus returns a bus. Errors: ResourceNotFound.
func (b *Buses) Bus(ctx context.Context, account hearth.Account, name string) (bus *Bus, err error) {
	err = b.cfg.Store.View(ctx, func(r store.Reader) error {
		bus, err = b.busOf(r, account, name)
		return err
	})
	return bus, stored("Bus", err)
}

// List returns at most max buses of an account whose names begin with names,
// after the one that a former call told as last.
func (b *Buses) List(ctx context.Context, account hearth.Account, names, after string, max int) (list []*Bus, last string, err error) {
	prefix := busKey(account, "")
	if after != "" && !strings.HasPrefix(after, prefix) {
		return nil, "", invalid("Parameter NextToken is not valid.")
	}
	err = b.cfg.Store.View(ctx, func(r store.Reader) error {
		list, last, err = scan[Bus](r, busesBucket, prefix+names, after, max, nil)
		return err
	})
	isDefault := func(bus *Bus) bool { return bus.Name == DefaultBus }
	if err == nil && after == "" && strings.HasPrefix(DefaultBus, names) && !slices.ContainsFunc(list, isDefault) {
		list = append([]*Bus{{Account: account, Name: DefaultBus, Region: b.cfg.Region}}, list...)
	}
	return list, last, stored("List", err)
}

// changed counts a change of a bus or its rules, as part of its transaction.
func changed(tx store.Tx, account hearth.Account, bus string) error {
	n, err := changes(tx, account, bus)
	if err != nil {
		return err
	}
	return tx.Put(changesBucket, busKey(account, bus), strconv.AppendUint(nil, n+1, 10))
}

func changes(r store.Reader, account hearth.Account, bus string) (uint64, error) {
	data, ok, err := r.Get(changesBucket, busKey(account, bus))
	if err != nil || !ok {
		return 0, err
	}
	return strconv.ParseUint(string(data), 10, 64)
}
