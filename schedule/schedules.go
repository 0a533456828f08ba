package schedule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/delivery"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/tags"
)

// The buckets: account/group/name → Schedule, account/name → Group.
const (
	schedulesBucket = "schedules"
	groupsBucket    = "scheduleGroups"
)

// Kind is what the Timers know schedules as.
const Kind = "schedule"

// Config is what Schedules work with. All but those with a default is required.
type Config struct {
	Store  store.Store
	Clock  hearth.Clock
	Region string
	Timers *Timers
	// Queue delivers what is fired.
	Queue   *delivery.Queue
	CatchUp CatchUp // "" is Last
	// Role tells whether a schedule of the ARN may have the role; nil lets every
	// role pass.
	Role func(account hearth.Account, role, schedule string) error
	Log  *slog.Logger // nil is slog.Default
}

// Schedules keep schedules and fire them. What was acknowledged is on disk.
// Safe for concurrent use, also by several servers on one store.
type Schedules struct {
	cfg    Config
	fired  atomic.Uint64
	missed atomic.Uint64
}

// New makes Schedules, which the Timers fire from then on.
func New(cfg Config) *Schedules {
	cfg.CatchUp = cmp.Or(cfg.CatchUp, Last)
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Schedules{cfg: cfg}
	cfg.Timers.Handle(Kind, s.fire)
	return s
}

// MaxGroups is how many groups an account may have.
const MaxGroups = 500

func key(account hearth.Account, group, name string) string {
	return string(account) + "/" + group + "/" + name
}

func stored(op string, err error) error {
	if _, ok := errors.AsType[*hearth.Error](err); err == nil || ok {
		return err
	}
	e := &hearth.Error{Op: "schedule." + op, Kind: hearth.Service, Message: "An internal error occurred.", Err: err}
	if errors.Is(err, store.ErrFull) {
		e.Message = "It could not be stored: the server's disk is full."
	}
	return e
}

// get reads a record; nil is none.
func get[T any](r store.Reader, bucket, key string) (*T, error) {
	data, ok, err := r.Get(bucket, key)
	if err != nil || !ok {
		return nil, err
	}
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

func noSchedule(name string) error {
	return hearth.Errorf(hearth.NotFound, "Schedule %s does not exist.", name)
}

func noGroup(name string) error {
	return hearth.Errorf(hearth.NotFound, "Schedule group %s does not exist.", name)
}

// hasGroup tells whether there is a group.
func hasGroup(r store.Reader, account hearth.Account, name string) (bool, error) {
	if name == DefaultGroup {
		return true, nil
	}
	_, ok, err := r.Get(groupsBucket, string(account)+"/"+name)
	return ok, err
}

func (s *Schedules) now() time.Time { return s.cfg.Clock.Now().UTC().Truncate(time.Millisecond) }

// prepare completes and checks a schedule as it is given.
func (s *Schedules) prepare(n *Schedule, now time.Time) error {
	n.Region = s.cfg.Region
	n.Start, n.End = n.Start.Truncate(time.Second), n.End.Truncate(time.Second)
	if n.Target.Retry.MaxAge == 0 {
		n.Target.Retry.MaxAge = delivery.DefaultPolicy.MaxAge
	}
	if err := n.check(now); err != nil {
		return err
	}
	if s.cfg.Role != nil {
		return s.cfg.Role(n.Account, n.Target.Role, n.ARN())
	}
	return nil
}

// Create makes a schedule: all of n but the times is set. Asked again with the
// same token it returns the one that is there. Errors: Validation,
// ResourceConflict, ResourceNotFound for the group.
func (s *Schedules) Create(ctx context.Context, n Schedule) (*Schedule, error) {
	now := s.now()
	if err := s.prepare(&n, now); err != nil {
		return nil, err
	}
	n.Created, n.Modified = now.Truncate(time.Second), now
	next, err := n.After(now)
	if err != nil {
		return nil, err
	}
	n.Next, n.Last, n.Fired = next, time.Time{}, 0
	k := key(n.Account, n.Group, n.Name)
	made := &n
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		made = &n
		if ok, err := hasGroup(tx, n.Account, n.Group); err != nil || !ok {
			return cmp.Or(err, noGroup(n.Group))
		}
		old, err := get[Schedule](tx, schedulesBucket, k)
		switch {
		case err != nil:
			return err
		case old != nil && old.Token != "" && old.Token == n.Token:
			made = old
			return nil
		case old != nil:
			return hearth.Errorf(hearth.Conflict, "Schedule %s already exists.", n.Name)
		}
		if err := put(tx, schedulesBucket, k, &n); err != nil {
			return err
		}
		return s.cfg.Timers.Set(tx, Kind, k, time.Time{}, n.Next)
	})
	if err != nil {
		return nil, stored("Create", err)
	}
	s.cfg.Timers.Wake()
	return made, nil
}

// Update replaces a schedule. What it was fired stays counted. Errors:
// Validation, ResourceNotFound.
func (s *Schedules) Update(ctx context.Context, n Schedule) (*Schedule, error) {
	now := s.now()
	if err := s.prepare(&n, now); err != nil {
		return nil, err
	}
	k := key(n.Account, n.Group, n.Name)
	made := n
	err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		made = n
		old, err := get[Schedule](tx, schedulesBucket, k)
		if err != nil || old == nil {
			return cmp.Or(err, noSchedule(n.Name))
		}
		made.Created, made.Modified, made.Last, made.Fired, made.Token = old.Created, now, old.Last, old.Fired, old.Token
		if made.Next, err = made.After(now); err != nil {
			return err
		}
		if err := put(tx, schedulesBucket, k, &made); err != nil {
			return err
		}
		return s.cfg.Timers.Set(tx, Kind, k, old.Next, made.Next)
	})
	if err != nil {
		return nil, stored("Update", err)
	}
	s.cfg.Timers.Wake()
	return &made, nil
}

// Get returns a schedule. Errors: ResourceNotFound.
func (s *Schedules) Get(ctx context.Context, account hearth.Account, group, name string) (found *Schedule, err error) {
	err = s.cfg.Store.View(ctx, func(r store.Reader) error {
		found, err = get[Schedule](r, schedulesBucket, key(account, group, name))
		if err == nil && found == nil {
			err = noSchedule(name)
		}
		return err
	})
	return found, stored("Get", err)
}

// Delete removes a schedule. Errors: ResourceNotFound.
func (s *Schedules) Delete(ctx context.Context, account hearth.Account, group, name string) error {
	k := key(account, group, name)
	err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		old, err := get[Schedule](tx, schedulesBucket, k)
		if err != nil || old == nil {
			return cmp.Or(err, noSchedule(name))
		}
		return s.remove(tx, k, old)
	})
	return stored("Delete", err)
}

func (s *Schedules) remove(tx store.Tx, k string, old *Schedule) error {
	if err := s.cfg.Timers.Set(tx, Kind, k, old.Next, time.Time{}); err != nil {
		return err
	}
	return tx.Delete(schedulesBucket, k)
}

// page reads at most max records of an account that fit, after a key; more is
// whether others follow.
func page[T any](r store.Reader, bucket, prefix, after string, max int, fits func(*T) bool) (list []*T, last string, more bool, err error) {
	for rec, err := range r.Scan(bucket, prefix, after) {
		if err != nil {
			return nil, "", false, err
		}
		v := new(T)
		if err := json.Unmarshal(rec.Value, v); err != nil {
			return nil, "", false, fmt.Errorf("the record %s of %s is damaged: %w", rec.Key, bucket, err)
		}
		if !fits(v) {
			continue
		}
		if len(list) == max {
			return list, last, true, nil
		}
		list, last = append(list, v), rec.Key
	}
	return list, last, false, nil
}

// List returns at most max schedules of an account whose group and the
// beginning of whose names are as asked, "" being any, after the one that a
// former call told as last; last is "" if no others follow. Errors:
// ResourceNotFound for the group.
func (s *Schedules) List(ctx context.Context, account hearth.Account, group, names, after string, max int, fits func(*Schedule) bool) (list []*Schedule, last string, err error) {
	prefix := string(account) + "/"
	if group != "" {
		prefix += group + "/" + names
	}
	if after != "" && !strings.HasPrefix(after, string(account)+"/") {
		return nil, "", invalid("Invalid NextToken.")
	}
	err = s.cfg.Store.View(ctx, func(r store.Reader) error {
		if group != "" {
			if ok, err := hasGroup(r, account, group); err != nil || !ok {
				return cmp.Or(err, noGroup(group))
			}
		}
		var more bool
		list, last, more, err = page(r, schedulesBucket, prefix, after, max, func(v *Schedule) bool {
			return strings.HasPrefix(v.Name, names) && (fits == nil || fits(v))
		})
		if !more {
			last = ""
		}
		return err
	})
	return list, last, stored("List", err)
}

// CreateGroup makes a group. Errors: Validation, ResourceConflict.
func (s *Schedules) CreateGroup(ctx context.Context, g Group) (*Group, error) {
	if err := CheckName("name", g.Name); err != nil {
		return nil, err
	}
	if err := tags.Check(g.Tags); err != nil {
		return nil, invalid("%s", err)
	}
	g.Region, g.Created = s.cfg.Region, s.now()
	g.Modified = g.Created
	k := string(g.Account) + "/" + g.Name
	made := &g
	err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		made = &g
		old, err := get[Group](tx, groupsBucket, k)
		switch {
		case err != nil:
			return err
		case old != nil && old.Token != "" && old.Token == g.Token:
			made = old
			return nil
		case old != nil || g.Name == DefaultGroup:
			return hearth.Errorf(hearth.Conflict, "Schedule group %s already exists.", g.Name)
		}
		n := 0
		for _, err := range tx.Scan(groupsBucket, string(g.Account)+"/", "") {
			if err != nil {
				return err
			}
			n++
		}
		if n >= MaxGroups {
			return hearth.Errorf(hearth.LimitExceeded, "An account can have %d schedule groups.", MaxGroups)
		}
		return put(tx, groupsBucket, k, &g)
	})
	if err != nil {
		return nil, stored("CreateGroup", err)
	}
	return made, nil
}

// Group returns a group. Errors: ResourceNotFound.
func (s *Schedules) Group(ctx context.Context, account hearth.Account, name string) (g *Group, err error) {
	err = s.cfg.Store.View(ctx, func(r store.Reader) error {
		g, err = get[Group](r, groupsBucket, string(account)+"/"+name)
		if err == nil && g == nil {
			if name != DefaultGroup {
				return noGroup(name)
			}
			g = &Group{Account: account, Name: name, Region: s.cfg.Region}
		}
		return err
	})
	return g, stored("Group", err)
}

// Groups lists groups as List does schedules.
func (s *Schedules) Groups(ctx context.Context, account hearth.Account, names, after string, max int) (list []*Group, last string, err error) {
	prefix := string(account) + "/"
	if after != "" && !strings.HasPrefix(after, prefix) {
		return nil, "", invalid("Invalid NextToken.")
	}
	err = s.cfg.Store.View(ctx, func(r store.Reader) error {
		var more bool
		list, last, more, err = page(r, groupsBucket, prefix+names, after, max, func(*Group) bool { return true })
		if !more {
			last = ""
		}
		return err
	})
	if after == "" && err == nil && strings.HasPrefix(DefaultGroup, names) {
		list = append([]*Group{{Account: account, Name: DefaultGroup, Region: s.cfg.Region}}, list...)
	}
	return list, last, stored("Groups", err)
}

// TagGroup changes a group's tags. Errors: ResourceNotFound, and those of
// change.
func (s *Schedules) TagGroup(ctx context.Context, account hearth.Account, name string, change func(map[string]string) (map[string]string, error)) error {
	err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		k := string(account) + "/" + name
		g, err := get[Group](tx, groupsBucket, k)
		switch {
		case err != nil:
			return err
		case g == nil && name != DefaultGroup:
			return noGroup(name)
		case g == nil:
			return invalid("The default schedule group can't be tagged.")
		}
		if g.Tags, err = change(g.Tags); err != nil {
			return err
		}
		g.Modified = s.now()
		return put(tx, groupsBucket, k, g)
	})
	return stored("TagGroup", err)
}

// deleteAtOnce bounds how many schedules one transaction deletes.
const deleteAtOnce = 500

// DeleteGroup removes a group with its schedules. Errors: ResourceNotFound,
// Validation for the default one.
func (s *Schedules) DeleteGroup(ctx context.Context, account hearth.Account, name string) error {
	if name == DefaultGroup {
		return invalid("The default schedule group can't be deleted.")
	}
	for {
		left := true
		err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
			if ok, err := hasGroup(tx, account, name); err != nil || !ok {
				return cmp.Or(err, noGroup(name))
			}
			list, _, more, err := page(tx, schedulesBucket, key(account, name, ""), "", deleteAtOnce, func(*Schedule) bool { return true })
			if err != nil {
				return err
			}
			for _, old := range list {
				if err := s.remove(tx, key(account, name, old.Name), old); err != nil {
					return err
				}
			}
			if left = more; more {
				return nil
			}
			return tx.Delete(groupsBucket, string(account)+"/"+name)
		})
		if err != nil || !left {
			return stored("DeleteGroup", err)
		}
	}
}

// Counts tell how often schedules were fired since the start, and how many of
// their times passed while no server ran and were not made up for.
func (s *Schedules) Counts() (fired, missed uint64) { return s.fired.Load(), s.missed.Load() }
