package proxy

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/internal/traffic"
	"github.com/hearth-faas/hearth/jwt"
	"github.com/hearth-faas/hearth/lambda/sigv4"
	"github.com/hearth-faas/hearth/store"
)

// Config is what a Service is made of. Authorize, Refuses, Recorder, Metrics and
// Log may be nil.
type Config struct {
	Store       store.Store
	Execution   *Execution
	Credentials sigv4.Credentials // of who calls APIs with signatures
	Issuers     *jwt.Issuers      // of who calls them with tokens
	Clock       hearth.Clock
	Region      string
	// Authorize tells whether the caller may call an API; nil lets in its own
	// account alone. Errors: AccessDenied.
	Authorize func(ctx context.Context, caller hearth.Identity, action, resource string) error
	// Refuses tells why an address (IP:PORT) must not be sent a result; "" is
	// that it may. Nil refuses all that is not public.
	Refuses func(address string) string
	// Guard bounds the tries at signatures; nil does not.
	Guard    sigv4.Guard
	Recorder hearth.Recorder
	Metrics  prometheus.Registerer
	Log      *slog.Logger
}

// Service has the resources and APIs of all accounts, and serves calls of them.
// Safe for concurrent use.
type Service struct {
	cfg       Config
	resources *resources
	table     table
	changing  sync.Mutex // of table and keys: one change at a time
	keys      sync.Map   // account/SHA-256 → *Key
	buckets   sync.Map   // account/API → *bucket
	cache     cache
	calls     *calls
	metrics   *metrics
	verifier  *sigv4.Verifier
	log       *slog.Logger
}

const (
	apiBucket = "proxy/apis"
	keyBucket = "proxy/keys"
)

// Open reads what there is. Asynchronous calls go on with Start.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Execution.HTTP == nil {
		cfg.Execution.HTTP = NewHTTP()
	}
	s := &Service{cfg: cfg, log: cfg.Log, verifier: sigv4.New(cfg.Credentials, cfg.Clock, cfg.Region, SigningService)}
	s.verifier.Guard = cfg.Guard
	s.metrics = newMetrics(cfg.Metrics)
	var err error
	if s.resources, err = openResources(ctx, cfg.Store, cfg.Clock); err != nil {
		return nil, err
	}
	all := map[hearth.Account]map[string]*compiled{}
	err = each(ctx, cfg.Store, apiBucket, func(key string, a *API) error {
		account, _, _ := strings.Cut(key, "/")
		c, err := compile(hearth.Account(account), a)
		if err != nil {
			return fmt.Errorf("the record %s of %s: %w", key, apiBucket, err)
		}
		if all[c.account] == nil {
			all[c.account] = map[string]*compiled{}
		}
		all[c.account][a.ID] = c
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.table.load(all)
	err = each(ctx, cfg.Store, keyBucket, func(key string, k *Key) error {
		account, _, _ := strings.Cut(key, "/")
		s.keys.Store(account+"/"+k.SHA256, k)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.calls, err = openCalls(ctx, s)
	return s, err
}

// SigningService is the service name in the scope of callers' signatures.
const SigningService = "execute-api"

// Resources lists the account's resources, of a type unless that is "".
func (s *Service) Resources(account hearth.Account, typ string) []Resource {
	return s.resources.list(account, typ)
}

// Resource gives one. Errors: ResourceNotFound.
func (s *Service) Resource(account hearth.Account, id string) (Resource, error) {
	if _, v := s.resources.find(account, id); v != nil {
		return v.Resource, nil
	}
	return Resource{}, notFound("resource", id)
}

// PutResource makes a resource, or replaces type, state and metadata of the one
// that there is; a Revision other than 0 must be that one's. Errors:
// InvalidParameter, PreconditionFailed, LimitExceeded.
func (s *Service) PutResource(ctx context.Context, account hearth.Account, r Resource) (Resource, error) {
	return s.resources.put(ctx, account, r)
}

// RemoveResource takes a resource away. Errors: ResourceNotFound.
func (s *Service) RemoveResource(ctx context.Context, account hearth.Account, id string) error {
	return s.resources.remove(ctx, account, id)
}

// APIs lists the account's APIs by id.
func (s *Service) APIs(account hearth.Account) []API {
	var list []API
	for _, c := range s.table.of(account).byID {
		list = append(list, *c.API)
	}
	slices.SortFunc(list, func(a, b API) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// API gives one. Errors: ResourceNotFound.
func (s *Service) API(account hearth.Account, id string) (API, error) {
	if c := s.table.of(account).byID[id]; c != nil {
		return *c.API, nil
	}
	return API{}, notFound("proxy API", id)
}

// PutAPI checks a definition and has it hold for each call that begins from now
// on; those under way end with the one that they began with. A Revision other
// than 0 must be that of the one that there is. The given API must not be changed
// afterwards. Errors: InvalidParameter, PreconditionFailed, ResourceConflict,
// LimitExceeded.
func (s *Service) PutAPI(ctx context.Context, account hearth.Account, a *API) (API, error) {
	c, err := compile(account, a)
	if err != nil {
		return API{}, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	routes := s.table.of(account)
	old := routes.byID[a.ID]
	was := uint64(0)
	if old != nil {
		was = old.Revision
	}
	if a.Revision != 0 && a.Revision != was {
		return API{}, hearth.Errorf(hearth.PreconditionFailed, "The proxy API %s is not at revision %d but at %d; look at it again.", a.ID, a.Revision, was)
	}
	if o := routes.clash(c); o != nil {
		return API{}, hearth.Errorf(hearth.Conflict, "The proxy API %s takes %s %s already; give this one another path or other methods.", o.ID, strings.Join(o.Methods, ","), o.Path)
	}
	if old == nil && len(routes.byID) >= MaxAPIs {
		return API{}, hearth.Errorf(hearth.LimitExceeded, "The account has %d proxy APIs, and may have no more.", MaxAPIs)
	}
	a.Revision, a.Changed = was+1, s.cfg.Clock.Now().UTC()
	if err := put(ctx, s.cfg.Store, apiBucket, keyOf(account, a.ID), a); err != nil {
		return API{}, err
	}
	s.table.set(account, a.ID, c)
	return *a, nil
}

// RemoveAPI takes an API away; calls under way end. Errors: ResourceNotFound.
func (s *Service) RemoveAPI(ctx context.Context, account hearth.Account, id string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.table.of(account).byID[id] == nil {
		return notFound("proxy API", id)
	}
	if err := remove(ctx, s.cfg.Store, apiBucket, keyOf(account, id)); err != nil {
		return err
	}
	s.table.set(account, id, nil)
	s.buckets.Delete(keyOf(account, id))
	s.metrics.apis.Forget(string(account), func(k traffic.Key) bool { return k[1] == id })
	return nil
}

// Key is a key with which APIs are called. Its text is told once, and not kept.
type Key struct {
	Name    string    `json:"name"`
	SHA256  string    `json:"sha256"`
	Created time.Time `json:"created"`
}

// maxKeys bounds an account's keys.
const maxKeys = 10_000

// Keys lists the account's keys by name.
func (s *Service) Keys(account hearth.Account) []Key {
	var list []Key
	s.keys.Range(func(at, k any) bool {
		if strings.HasPrefix(at.(string), string(account)+"/") {
			list = append(list, *k.(*Key))
		}
		return true
	})
	slices.SortFunc(list, func(a, b Key) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// AddKey makes a key, and returns its text. Errors: InvalidParameter,
// ResourceConflict, LimitExceeded.
func (s *Service) AddKey(ctx context.Context, account hearth.Account, name string) (Key, string, error) {
	if err := CheckName("key", name); err != nil {
		return Key{}, "", err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	there := s.Keys(account)
	if slices.ContainsFunc(there, func(k Key) bool { return k.Name == name }) {
		return Key{}, "", hearth.Errorf(hearth.Conflict, "There is a key %s already; remove it first, or take another name.", name)
	}
	if len(there) >= maxKeys {
		return Key{}, "", hearth.Errorf(hearth.LimitExceeded, "The account has %d keys, and may have no more.", maxKeys)
	}
	var random [25]byte
	_, _ = rand.Read(random[:]) // never fails
	text := "hpk_" + strings.ToLower(base32.StdEncoding.EncodeToString(random[:]))
	k := &Key{Name: name, SHA256: hashKey(text), Created: s.cfg.Clock.Now().UTC()}
	if err := put(ctx, s.cfg.Store, keyBucket, keyOf(account, name), k); err != nil {
		return Key{}, "", err
	}
	s.keys.Store(string(account)+"/"+k.SHA256, k)
	return *k, text, nil
}

// RemoveKey takes a key away, at once. Errors: ResourceNotFound.
func (s *Service) RemoveKey(ctx context.Context, account hearth.Account, name string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	for _, k := range s.Keys(account) {
		if k.Name == name {
			if err := remove(ctx, s.cfg.Store, keyBucket, keyOf(account, name)); err != nil {
				return err
			}
			s.keys.Delete(string(account) + "/" + k.SHA256)
			return nil
		}
	}
	return notFound("key", name)
}

// hashKey is how a key is kept. It is random, and so needs no salt.
func hashKey(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// Clear takes away all that an account has: APIs, resources, keys and
// asynchronous calls.
func (s *Service) Clear(ctx context.Context, account hearth.Account) error {
	gone := func(err error) error {
		if hearth.KindOf(err) == hearth.NotFound { // meanwhile
			return nil
		}
		return err
	}
	for _, a := range s.APIs(account) {
		if err := gone(s.RemoveAPI(ctx, account, a.ID)); err != nil {
			return err
		}
	}
	for _, r := range s.Resources(account, "") {
		if err := gone(s.RemoveResource(ctx, account, r.ID)); err != nil {
			return err
		}
	}
	for _, k := range s.Keys(account) {
		if err := gone(s.RemoveKey(ctx, account, k.Name)); err != nil {
			return err
		}
	}
	return s.calls.clear(ctx, account)
}
