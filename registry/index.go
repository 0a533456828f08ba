package registry

import (
	"hash/maphash"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hearth-faas/hearth"
)

// The index answers Resolve without a lock: a function's key leads to its
// entry through a map that is copied when functions are added or removed, and
// the entry's pointer to its present view. There are many such maps, so that
// a copy stays small: with a hundred thousand functions each holds 24.

const shardCount = 4096

type shard struct {
	mu sync.Mutex // writers
	m  atomic.Pointer[map[key]*entry]
}

type entry struct{ view atomic.Pointer[view] }

var seed = maphash.MakeSeed()

func (r *Registry) shard(k key) *shard {
	return &r.shards[maphash.String(seed, k.name)%shardCount]
}

// view returns the function's present view, nil if there is no function.
func (r *Registry) view(k key) *view {
	m := r.shard(k).m.Load()
	if m == nil {
		return nil
	}
	e := (*m)[k]
	if e == nil {
		return nil
	}
	return e.view.Load()
}

// setView makes v what is seen; nil removes the function. The caller holds
// the key's lock.
func (r *Registry) setView(k key, v *view) {
	s := r.shard(k)
	if v != nil {
		if m := s.m.Load(); m != nil {
			if e := (*m)[k]; e != nil {
				e.view.Store(v)
				return
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[key]*entry{}
	if m := s.m.Load(); m != nil {
		next = maps.Clone(*m)
	}
	if v == nil {
		delete(next, k)
	} else {
		e := &entry{}
		e.view.Store(v)
		next[k] = e
	}
	s.m.Store(&next)
}

// firstView is setView of a function that is not there yet, before anybody but
// the caller looks at the index: the map needs no copy.
func (r *Registry) firstView(k key, v *view) {
	s := r.shard(k)
	m := s.m.Load()
	if m == nil {
		m = &map[key]*entry{}
		s.m.Store(m)
	}
	e := &entry{}
	e.view.Store(v)
	(*m)[k] = e
}

// all yields every function, in no order.
func (r *Registry) all() iter.Seq2[key, *view] {
	return func(yield func(key, *view) bool) {
		for i := range r.shards {
			m := r.shards[i].m.Load()
			if m == nil {
				continue
			}
			for k, e := range *m {
				if !yield(k, e.view.Load()) {
					return
				}
			}
		}
	}
}

// account is what is counted and ordered for one account.
type account struct {
	names  []string // of its functions, sorted
	code   int64    // bytes of all packages, counted for each version
	making int      // functions that are being made
}

// account returns the account's entry, making it. The caller holds r.mu.
func (r *Registry) account(id hearth.Account) *account {
	a := r.accounts[id]
	if a == nil {
		a = &account{}
		r.accounts[id] = a
	}
	return a
}

func (a *account) add(name string) {
	if i, found := slices.BinarySearch(a.names, name); !found {
		a.names = slices.Insert(a.names, i, name)
	}
}

func (a *account) remove(name string) {
	if i, found := slices.BinarySearch(a.names, name); found {
		a.names = slices.Delete(a.names, i, i+1)
	}
}

// charge counts code to the account, or with less than 0 gives it back. More
// than the account may have is refused, with CodeStorageExceeded.
func (r *Registry) charge(id hearth.Account, grown int64) error {
	most := r.quota(id).CodeBytes
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.account(id)
	if grown > 0 && a.code+grown > most {
		return hearth.Errorf(hearth.CodeStorageExceeded, "Code storage limit exceeded.")
	}
	a.code += grown
	return nil
}

// makeRoom sees that an account may have a further function, until done is
// called. Errors: LimitExceeded.
func (r *Registry) makeRoom(id hearth.Account) (done func(), err error) {
	most := r.quota(id).Functions
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.account(id)
	if most > 0 && len(a.names)+a.making >= most {
		return nil, hearth.Errorf(hearth.LimitExceeded, "The account %s has %d functions, and may have no more than %d. Delete one, or ask whoever operates this Hearth for more.", id, len(a.names), most)
	}
	a.making++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		a.making--
	}, nil
}

// codeBytes is what a function's packages count for: those of $LATEST and of
// each version, shared or not, as the service counts them.
func (v *view) codeBytes() (n int64) {
	if v == nil {
		return 0
	}
	n = v.newest.Package.Size
	for f := range v.publishedVersions {
		n += f.Package.Size
	}
	return n
}

// keyLocks serialize the changes of each function. A lock exists only while
// somebody holds or wants it.
type keyLocks struct {
	mu sync.Mutex
	m  map[key]*keyLock
}

type keyLock struct {
	mu      sync.Mutex
	holders int // and waiters
}

// lock locks k and returns what unlocks it.
func (l *keyLocks) lock(k key) func() {
	l.mu.Lock()
	if l.m == nil {
		l.m = map[key]*keyLock{}
	}
	kl := l.m[k]
	if kl == nil {
		kl = &keyLock{}
		l.m[k] = kl
	}
	kl.holders++
	l.mu.Unlock()
	kl.mu.Lock()
	return func() {
		kl.mu.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if kl.holders--; kl.holders == 0 {
			delete(l.m, k)
		}
	}
}
