// Package registry keeps functions, their versions, tags and code.
//
// All of it is in memory and on disk. Reads, Resolve above all, are answered
// from memory; a change is first committed to the store and then made visible
// at once, by replacing one pointer. So what a caller was told is on disk,
// and what a reader sees is what some caller was told.
//
// A new or changed function is prepared (Config.Prepare: its code is brought
// to where it will run) before it is resolved. Until then Resolve answers
// what was there before, and Get the new one with its state. The switch of
// both is the same pointer: once Get says Successful, Resolve answers nothing
// older. In between, the new one may take over where it is ready
// (Config.Overtake).
//
// Order of locks: claims, a function's key lock, then Registry.mu, then
// packages.mu. The shards' locks are leaves.
package registry

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/archive"
	"github.com/hearth-faas/hearth/store"
)

// Sealer encrypts what must not be read from the disk. The associated data
// says what the secret belongs to.
type Sealer interface {
	Seal(plain, associated []byte) ([]byte, error)
	Open(sealed, associated []byte) ([]byte, error)
}

// Images finds images and keeps them.
type Images interface {
	// Resolve finds the image that uri names for an architecture, and gives
	// uri with its digest, and the digest in hexadecimal. Its errors are what
	// the caller is told.
	Resolve(ctx context.Context, uri, architecture string) (pinned, digest string, err error)
	// Forget is told that no function has an image any more.
	Forget(digest string)
	// Keep forgets all images but those that are needed. It is called once,
	// at the start.
	Keep(needed func(digest string) bool)
}

// Config is what a Registry works with. Fields without a default are
// required.
type Config struct {
	Store store.Store
	Blobs store.Blobs
	// Images finds and keeps the images that functions come as; nil finds
	// none.
	Images  Images
	Secrets Sealer
	// Keys are what functions may name as their own key; nil takes whatever
	// they name, and seals by Secrets.
	Keys   Keys
	Clock  hearth.Clock
	Region string
	// Prepare makes f's code ready to run on this node, before the function
	// or version becomes Active. It is called with a new or changed $LATEST
	// and with each new version, also when another function of the same
	// package was prepared before, and at most prepares at a time. Its error
	// makes the function Failed, with the error's message as the reason. nil
	// prepares nothing.
	Prepare func(ctx context.Context, f *hearth.Function) error
	// Overtake is called when a changed $LATEST, or $LATEST.PUBLISHED made
	// anew, has been prepared, and before it is what Resolve answers in place
	// of old: whoever runs functions may have it ready and let it take over
	// from old, which nothing can undo any more. Changed is called after it
	// has returned. nil is nobody.
	Overtake func(ctx context.Context, old, now *hearth.Function)
	// Ahead is called before an alias that old is the main version of gives
	// now that share of its invocations, and the change's caller waits until
	// it returns. nil is nobody.
	Ahead func(ctx context.Context, old, now *hearth.Function, share float64)
	// Changed is called after Resolve's answer changed: old and new are the
	// same function and version, nil where there is none. Calls for one
	// function are in order. It must not call the Registry's changing
	// methods, and should be quick: the change's caller waits. nil is no one.
	Changed func(old, new *hearth.Function)
	// Configured is called after settings changed; empty ones were removed.
	// Calls for one function are in order, after Changed. The same is asked of
	// it as of Changed. nil is no one.
	Configured func(Configured)
	// Verify checks the signature of an archive, of what (a function or a
	// layer), by the code signing configuration of an account with the ARN. It
	// returns who signed it, and nobody if it is not signed and need not be.
	// It is called where there is such a configuration. nil is nobody, ever.
	Verify func(ctx context.Context, account hearth.Account, config, what string, archive io.ReaderAt, size int64) (profile, job string, err error)
	// Concurrent is called with what a function has for itself of its
	// account's concurrency when that changed, and by Open for each function
	// that has anything. It is given the end of it, too: nothing. The same is
	// asked of it as of Changed, after which it is called. nil is no one.
	Concurrent func(*hearth.Concurrency)
	// Quota is what an account may have, where it is not what every account
	// may; nil is that all may the same.
	Quota func(account hearth.Account) Quota
	// Concurrency is how many invocations of one account may run at once; 0
	// is 1,000.
	Concurrency int
	// Runtimes are the names that a function's runtime may have; nil is
	// Runtimes().
	Runtimes []string
	// Limits of the archives; the zero value is archive.Lambda.
	Limits archive.Limits
	// CodeStorage is what all packages of an account may take, in bytes; 0
	// is the service's 75 GiB.
	CodeStorage int64
	// Pick gives a number from 0 to below 1, by which an alias's invocations
	// are shared among its versions. It is called concurrently; nil is
	// random.
	Pick func() float64
	// Taken tells whether a name belongs to something else, so that no function
	// of the account can have it. It may be called with the name's lock held, and
	// must not call the Registry. nil is never.
	Taken func(account hearth.Account, name string) bool
	// Borrowed tells of a taken name whether it stands for a function of another
	// account and can have settings of its own, until GiveUp. It is called as
	// Taken is. nil is never.
	Borrowed func(account hearth.Account, name string) bool
	Rand     io.Reader    // for revision ids, read concurrently; nil is crypto/rand
	Log      *slog.Logger // nil is slog.Default
}

// Quota bounds an account; 0 is what every account may have.
type Quota struct {
	Concurrency int
	Functions   int
	CodeBytes   int64
}

// quota is what an account may have; Functions 0 is any number.
func (r *Registry) quota(account hearth.Account) Quota {
	var q Quota
	if r.cfg.Quota != nil {
		q = r.cfg.Quota(account)
	}
	if q.Concurrency == 0 {
		q.Concurrency = r.cfg.Concurrency
	}
	if q.CodeBytes == 0 {
		q.CodeBytes = r.cfg.CodeStorage
	}
	return q
}

// maxCodeStorage is the service's limit.
const maxCodeStorage = 75 << 30

// prepares is how many preparations run at once: they are bound by the disk
// and the processors that invocations want too.
const prepares = 2

// Registry implements hearth.Functions. Safe for concurrent use.
type Registry struct {
	cfg Config

	shards      [shardCount]shard
	locks       keyLocks
	sealing     sync.RWMutex // read from sealing an environment until it is on disk
	packages    packages
	generations generations
	layers      layers
	borrowed    borrowed
	denials     atomic.Int64 // policies with a statement that denies
	claims      sync.Mutex   // of concurrency: one at a time
	updates     updates

	mu       sync.Mutex // accounts and what they point to
	accounts map[hearth.Account]*account

	jobs   jobs
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
}

var _ hearth.Functions = (*Registry)(nil)

// Open reads what is registered, takes up preparations that a stop
// interrupted, and removes code that nothing refers to. The caller closes
// store and blobs after the Registry.
func Open(ctx context.Context, cfg Config) (*Registry, error) {
	if cfg.Rand == nil {
		cfg.Rand = crand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Runtimes == nil {
		cfg.Runtimes = Runtimes()
	}
	if cfg.Limits == (archive.Limits{}) {
		cfg.Limits = archive.Lambda
	}
	if cfg.CodeStorage == 0 {
		cfg.CodeStorage = maxCodeStorage
	}
	if cfg.Images == nil {
		cfg.Images = noImages{}
	}
	if cfg.Prepare == nil {
		cfg.Prepare = func(context.Context, *hearth.Function) error { return nil }
	}
	if cfg.Changed == nil {
		cfg.Changed = func(_, _ *hearth.Function) {}
	}
	if cfg.Configured == nil {
		cfg.Configured = func(Configured) {}
	}
	if cfg.Verify == nil {
		cfg.Verify = func(context.Context, hearth.Account, string, string, io.ReaderAt, int64) (string, string, error) {
			return "", "", nil
		}
	}
	if cfg.Concurrent == nil {
		cfg.Concurrent = func(*hearth.Concurrency) {}
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 1000
	}
	if cfg.Pick == nil {
		cfg.Pick = rand.Float64
	}
	r := &Registry{cfg: cfg, accounts: map[hearth.Account]*account{}}
	r.packages = packages{blobs: cfg.Blobs, images: cfg.Images, log: cfg.Log, refs: map[string]int{}, pins: map[string]int{}}
	r.generations.store = cfg.Store
	r.jobs.slots = make(chan struct{}, prepares)
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	err := r.load(ctx)
	if err == nil {
		err = r.openLayers(ctx, cfg.Store)
	}
	if err == nil {
		err = r.openBorrowed(ctx, cfg.Store)
	}
	if err == nil {
		err = r.packages.sweep(ctx)
	}
	if err != nil {
		r.cancel()
		return nil, fmt.Errorf("registry: %w", err)
	}
	for k, v := range r.all() {
		r.tellConcurrency(k, nil, v)
		r.settleAll(k, nil, v)
	}
	return r, nil
}

// Close stops preparations, which the next Open takes up again, and waits for
// them. No method may be called after it.
func (r *Registry) Close() error {
	r.cancel()
	r.jobs.close()
	return nil
}

// key names a function.
type key struct {
	account hearth.Account
	name    string
}

// view is everything about one function at one moment. It never changes.
type view struct {
	// newest is $LATEST as Get answers it.
	newest *hearth.Function
	// active is $LATEST as Resolve answers it: newest, or what was active
	// before a change in progress; nil if it never was active.
	active *hearth.Function
	// versions are in the order of their numbers.
	versions []version
	// published is $LATEST.PUBLISHED; nil if there is none.
	published *published
	// next is the number of the next version.
	next int
	tags map[string]string
	// aliases are in the order of their names.
	aliases []*hearth.Alias
	// settings are by qualifier, "" for the function as a whole. None is
	// empty.
	settings map[string]*Settings
}

// version is a published version.
type version struct {
	number int
	f      *hearth.Function
	// description is $LATEST's at the time, which f's own may differ from.
	description string
}

// find returns the version with the number, or nil.
func (v *view) find(number int) *version {
	// Written out: slices.BinarySearchFunc would cost Resolve an allocation
	// for its closure.
	lo, hi := 0, len(v.versions)
	for lo < hi {
		switch mid := int(uint(lo+hi) >> 1); {
		case v.versions[mid].number < number:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	if lo < len(v.versions) && v.versions[lo].number == number {
		return &v.versions[lo]
	}
	return nil
}

// number reads a version's number; 0 if the qualifier is none.
func number(qualifier string) (n int) {
	if len(qualifier) > 9 || qualifier == "" || qualifier[0] == '0' {
		return 0
	}
	for _, c := range []byte(qualifier) {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// Resolve implements hearth.Functions. A function or version that is not
// Active answers as the service does, with ResourceConflict and its state,
// rather than making the invocation wait: what works here works there.
func (r *Registry) Resolve(_ context.Context, account hearth.Account, name, qualifier string) (*hearth.Function, error) {
	v := r.view(key{account, name})
	if v == nil {
		return nil, r.notFound(account, name, qualifier)
	}
	f := v.resolve(qualifier, r.cfg.Pick)
	switch {
	case f == nil && qualifier == "":
		return nil, noPublished(v.newest)
	case f == nil:
		return nil, r.notFound(account, name, qualifier)
	case f.State != hearth.Active && f != v.active:
		return nil, inState(f)
	}
	return f, nil
}

// Get returns the newest configuration, also of a function that is Pending or
// whose change is in progress; of an alias, that of the version that it names
// first. The function is shared and must not be changed. Errors:
// ResourceNotFound.
func (r *Registry) Get(_ context.Context, account hearth.Account, name, qualifier string) (*hearth.Function, error) {
	v, version := r.view(key{account, name}), qualifier
	if v != nil {
		if a := v.alias(qualifier); a != nil {
			version = a.Version
		}
		if version == "" || version == hearth.Latest {
			return v.newest, nil
		}
		if f := v.version(version); f != nil {
			return f, nil
		}
	}
	return nil, r.notFound(account, name, qualifier)
}

// revision makes a revision id.
func (r *Registry) revision() (string, error) {
	id, err := uuid.NewRandomFromReader(r.cfg.Rand)
	if err != nil {
		return "", errors.Join(errors.New("make a revision id"), err)
	}
	return id.String(), nil
}
