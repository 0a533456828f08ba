package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/proxy/expression"
	"github.com/hearth-faas/hearth/store"
)

// resources are the resources of all accounts: in memory, and in the store
// before any change of them is seen. Safe for concurrent use.
type resources struct {
	store store.Store
	clock hearth.Clock

	mu    sync.RWMutex
	all   map[string]*live // by account/id
	count map[hearth.Account]int
}

// live is one resource. Its lock is held while a change goes to disk, so that
// changes of one resource are one after the other, and those of several share
// the store's commits.
type live struct {
	key string
	// turn is held by a call that runs its function again after its change was
	// refused, so that such calls are in each other's way no more.
	turn chan struct{}

	mu  sync.Mutex
	now atomic.Pointer[version] // nil: it was deleted
}

// version is a resource at one revision. It is never changed.
type version struct {
	Resource
	state map[string]any
}

const resourceBucket = "proxy/resources"

// recordVersion is the version of all records of this package.
const recordVersion = 1

// record is how a value is stored.
type record[T any] struct {
	Version int `json:"v"`
	Value   T   `json:"value"`
}

func encodeRecord(v any) ([]byte, error) { return json.Marshal(record[any]{recordVersion, v}) }

func decodeRecord[T any](bucket string, r store.Record) (v T, err error) {
	var rec record[T]
	if err := json.Unmarshal(r.Value, &rec); err != nil {
		return v, fmt.Errorf("the record %s of %s is damaged: %w", r.Key, bucket, err)
	}
	if rec.Version != recordVersion {
		return v, fmt.Errorf("the record %s of %s has the version %d, which this program does not know: it was written by a newer one", r.Key, bucket, rec.Version)
	}
	return rec.Value, nil
}

// each calls take with every record of a bucket.
func each[T any](ctx context.Context, s store.Store, bucket string, take func(key string, v T) error) error {
	return s.View(ctx, func(r store.Reader) error {
		for rec, err := range r.Scan(bucket, "", "") {
			if err != nil {
				return err
			}
			v, err := decodeRecord[T](bucket, rec)
			if err != nil {
				return err
			}
			if err := take(rec.Key, v); err != nil {
				return err
			}
		}
		return nil
	})
}

func put(ctx context.Context, s store.Store, bucket, key string, v any) error {
	data, err := encodeRecord(v)
	if err != nil {
		return err
	}
	return s.Update(ctx, func(tx store.Tx) error { return tx.Put(bucket, key, data) })
}

func remove(ctx context.Context, s store.Store, bucket, key string) error {
	return s.Update(ctx, func(tx store.Tx) error { return tx.Delete(bucket, key) })
}

func keyOf(account hearth.Account, id string) string { return string(account) + "/" + id }

func openResources(ctx context.Context, s store.Store, clock hearth.Clock) (*resources, error) {
	r := &resources{store: s, clock: clock, all: map[string]*live{}, count: map[hearth.Account]int{}}
	return r, each(ctx, s, resourceBucket, func(key string, v Resource) error {
		state, err := v.check()
		if err != nil {
			return fmt.Errorf("the record %s of %s is damaged: %w", key, resourceBucket, err)
		}
		l := &live{key: key, turn: make(chan struct{}, 1)}
		l.now.Store(&version{v, state})
		r.all[key] = l
		account, _, _ := strings.Cut(key, "/")
		r.count[hearth.Account(account)]++
		return nil
	})
}

// find gives the resource; nil if there is none.
func (r *resources) find(account hearth.Account, id string) (*live, *version) {
	r.mu.RLock()
	l := r.all[keyOf(account, id)]
	r.mu.RUnlock()
	if l == nil {
		return nil, nil
	}
	return l, l.now.Load()
}

// list gives the account's resources, of a type unless that is "", by id.
func (r *resources) list(account hearth.Account, typ string) []Resource {
	var out []Resource
	r.mu.RLock()
	for key, l := range r.all {
		if v := l.now.Load(); v != nil && strings.HasPrefix(key, string(account)+"/") && (typ == "" || v.Type == typ) {
			out = append(out, v.Resource)
		}
	}
	r.mu.RUnlock()
	slices.SortFunc(out, func(a, b Resource) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// put makes a resource, or changes type, state and metadata of the one that
// there is: of the revision in v, if that is not 0.
func (r *resources) put(ctx context.Context, account hearth.Account, v Resource) (Resource, error) {
	state, err := v.check()
	if err != nil {
		return Resource{}, err
	}
	l, err := r.locked(account, v.ID)
	if err != nil {
		return Resource{}, err
	}
	defer l.mu.Unlock()
	old := l.now.Load()
	now := r.clock.Now().UTC()
	switch {
	case old == nil && v.Revision != 0, old != nil && v.Revision != 0 && v.Revision != old.Revision:
		err = hearth.Errorf(hearth.PreconditionFailed, "The resource %s is not at revision %d; look at it again.", v.ID, v.Revision)
	case old == nil:
		v.Revision, v.Created = 1, now
	default:
		v.Revision, v.Created = old.Revision+1, old.Created
	}
	if err == nil {
		v.Changed = now
		err = put(ctx, r.store, resourceBucket, l.key, v)
	}
	if err != nil {
		if old == nil {
			r.forget(account, l)
		}
		return Resource{}, err
	}
	l.now.Store(&version{v, state})
	return v, nil
}

// locked gives the resource of the id, or a new one that is nothing yet, with its
// lock held.
func (r *resources) locked(account hearth.Account, id string) (*live, error) {
	key := keyOf(account, id)
	for {
		r.mu.Lock()
		l := r.all[key]
		if l == nil {
			if r.count[account] >= MaxResources {
				r.mu.Unlock()
				return nil, hearth.Errorf(hearth.LimitExceeded, "The account has %d resources, and may have no more.", MaxResources)
			}
			l = &live{key: key, turn: make(chan struct{}, 1)}
			r.all[key] = l
			r.count[account]++
		}
		r.mu.Unlock()
		l.mu.Lock()
		r.mu.RLock()
		there := r.all[key] == l
		r.mu.RUnlock()
		if there { // else it was deleted while this waited for its lock
			return l, nil
		}
		l.mu.Unlock()
	}
}

// forget takes one out that is no more.
func (r *resources) forget(account hearth.Account, l *live) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all[l.key] == l {
		delete(r.all, l.key)
		r.count[account]--
	}
}

func (r *resources) remove(ctx context.Context, account hearth.Account, id string) error {
	l, v := r.find(account, id)
	if v == nil {
		return notFound("resource", id)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now.Load() == nil {
		return notFound("resource", id)
	}
	if err := remove(ctx, r.store, resourceBucket, l.key); err != nil {
		return err
	}
	l.now.Store(nil)
	r.forget(account, l)
	return nil
}

// update is how a call changes a resource's state.
type update struct {
	set        map[string]any // nil: merge and add instead
	atRevision uint64         // of set
	merge, add map[string]any
}

// errMoved says that the state is not the one from which its successor was made.
var errMoved = errors.New("the state has changed meanwhile")

// change applies an update, and gives the resource after it: on disk, unless
// nothing has changed. Errors: errMoved, a *fault.
func (r *resources) change(ctx context.Context, l *live, u *update) (*version, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.now.Load()
	if v == nil {
		return nil, &fault{Fault: NoSuchResource, message: "The resource was deleted during the call."}
	}
	state, data, err := u.apply(v)
	if err != nil {
		return nil, err
	}
	if reflect.DeepEqual(state, v.state) {
		return v, nil
	}
	next := &version{v.Resource, state}
	next.State, next.Revision, next.Changed = data, v.Revision+1, r.clock.Now().UTC()
	if err := put(ctx, r.store, resourceBucket, l.key, next.Resource); err != nil {
		return nil, err
	}
	l.now.Store(next)
	return next, nil
}

// apply gives the state after the update, as it will be after a restart, and its
// JSON. Errors: errMoved, a *fault.
func (u *update) apply(v *version) (map[string]any, json.RawMessage, error) {
	state := u.set
	if state != nil && v.Revision != u.atRevision {
		return nil, nil, errMoved
	}
	if state == nil {
		state = v.state
		if u.merge != nil {
			state = mergePatch(v.state, u.merge).(map[string]any) // of a map comes a map
		}
		var err error
		if state, err = addNumbers(state, u.add); err != nil {
			return nil, nil, &fault{Fault: StateMismatch, message: "The resource's state is such that the change can't be made: " + err.Error() + "."}
		}
	}
	data, err := encodeState(state)
	var decoded any
	if err == nil {
		decoded, err = expression.FromJSON(data)
	}
	if err != nil {
		return nil, nil, &fault{Fault: StateMismatch, message: "The resource's state can't be kept: " + message(err)}
	}
	return decoded.(map[string]any), data, nil
}

// message is what a caller may be told of an error.
func message(err error) string {
	if e, ok := errors.AsType[*hearth.Error](err); ok {
		return e.Message
	}
	return err.Error()
}
