package apigateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/gateway"
	"github.com/hearth-faas/hearth/internal/traffic"
	"github.com/hearth-faas/hearth/jwt"
	"github.com/hearth-faas/hearth/lambda/sigv4"
	"github.com/hearth-faas/hearth/outside"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/worker/logs"
)

// Config is what a Service is made of. All of which it is not said what nil is
// must be set.
type Config struct {
	Store       store.Store
	Clock       hearth.Clock
	Region      string
	Invoker     hearth.Invoker
	Credentials sigv4.Credentials
	// Guard bounds the tries at signatures; nil does not.
	Guard sigv4.Guard
	// Endpoint is where the API of that id is served.
	Endpoint func(id string) string
	// Services has a service do what an integration's subtype names, and returns
	// its answer; an error is that it could not be asked. nil has no services.
	Services func(ctx context.Context, q *Task) (*gateway.Answer, error)
	// Logs takes access logs; nil is nowhere.
	Logs logs.Keeper
	// Role tells whether a role of the account may be taken on for what of
	// names; nil is always.
	Role func(account hearth.Account, role, of string) error
	// Authorize tells whether a caller of the API's own account may call a route
	// with AWS_IAM; nil lets all of them in.
	Authorize func(ctx context.Context, caller hearth.Identity, action, resource string) error
	// Issuers are who JWT authorizers trust.
	Issuers *jwt.Issuers
	// Refuses tells why HTTP backends at the address are not called, "" if they
	// are; nil is outside.Refuses.
	Refuses func(netip.AddrPort) string
	// Sockets is how many connections of WebSocket APIs there may be, half of
	// which one account's; 0 is no bound but the accounts' own.
	Sockets int
	// Own are the host names by which clients reach this server, in lower case.
	// No account can take one of them, nor a wildcard that it would fall under.
	Own []string
	// Within tells from which container's code a request came; "" is from
	// outside. nil is always.
	Within func(*http.Request) string
	// Done is called after each invocation that reached the Invoker, when
	// its answer was read; nil is no one.
	Done func(*hearth.Invocation)
	// Metrics are where requests are counted; nil is nowhere.
	Metrics prometheus.Registerer
	// Log takes the errors that are the server's; nil is slog.Default.
	Log *slog.Logger
}

const (
	recordsBucket     = "apigateway"
	deploymentsBucket = "apigateway.deployments" // API/DEPLOYMENT
	domainsBucket     = "apigateway.domains"
)

// Service keeps the APIs and serves them. Safe for concurrent use; serving a
// request takes no lock that a change of the APIs holds.
type Service struct {
	Config
	verifier *sigv4.Verifier
	client   *http.Client
	traffic  *traffic.Counts
	messages *traffic.Counts
	sockets  sockets

	// changing is held from before a change is decided until after it is seen,
	// so that changes are seen in the order in which they were committed.
	changing sync.Mutex

	mu      sync.RWMutex
	records map[string]*record // by API
	domains map[string]*domain // by host name

	tables sync.Map                         // API id → *table
	hosts  atomic.Pointer[map[string]*host] // by host name
}

// Open reads the APIs.
func Open(ctx context.Context, c Config) (*Service, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Refuses == nil {
		c.Refuses = outside.Refuses
	}
	s := &Service{
		Config: c, records: map[string]*record{}, domains: map[string]*domain{},
		verifier: sigv4.New(c.Credentials, c.Clock, c.Region, "execute-api"),
	}
	s.verifier.Guard = c.Guard
	s.traffic = traffic.New(c.Metrics, "http_api", "HTTP APIs", "integration", "api", "stage", "route")
	s.messages = traffic.New(c.Metrics, "websocket_api", "WebSocket APIs: messages, and the begin and end of connections", "integration", "api", "stage", "route")
	s.sockets = sockets{clock: c.Clock, most: c.Sockets, byID: map[string]*socket{}, of: map[hearth.Account]*share{}}
	if c.Metrics != nil {
		c.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hearth_websocket_api_connections", Help: "Connections of WebSocket APIs that are open."}, func() float64 { return float64(s.sockets.count()) }))
	}
	s.client = outside.NewClient(c.Refuses)
	if err := c.Store.View(ctx, s.read); err != nil {
		return nil, err
	}
	for _, r := range s.records {
		s.show(r)
	}
	s.showHosts()
	return s, nil
}

// Drain ends the connections of WebSocket APIs, and waits until what is run at
// their ends has ended, or ctx. No connection is made any more.
func (s *Service) Drain(ctx context.Context) error { return s.sockets.drain(ctx) }

// read reads all records.
func (s *Service) read(r store.Reader) error {
	clear(s.records)
	clear(s.domains)
	for rec, err := range r.Scan(recordsBucket, "", "") {
		if err != nil {
			return err
		}
		a := new(record)
		if err := decodeRecord(recordsBucket, rec, a, &a.Version); err != nil {
			return err
		}
		a.deployments = map[string]*deployment{}
		s.records[rec.Key] = a
	}
	for rec, err := range r.Scan(deploymentsBucket, "", "") {
		if err != nil {
			return err
		}
		d := new(deployment)
		if err := json.Unmarshal(rec.Value, d); err != nil {
			return fmt.Errorf("the record %s of %s is damaged: %w", rec.Key, deploymentsBucket, err)
		}
		api := rec.Key[:len(rec.Key)-len(d.ID)-1]
		a := s.records[api]
		if a == nil {
			return fmt.Errorf("the record %s of %s is of an API that is not there", rec.Key, deploymentsBucket)
		}
		a.deployments[d.ID] = d
	}
	for rec, err := range r.Scan(domainsBucket, "", "") {
		if err != nil {
			return err
		}
		d := new(domain)
		if err := decodeRecord(domainsBucket, rec, d, &d.Version); err != nil {
			return err
		}
		s.domains[rec.Key] = d
	}
	return nil
}

func decodeRecord(bucket string, rec store.Record, into any, version *int) error {
	if err := json.Unmarshal(rec.Value, into); err != nil {
		return fmt.Errorf("the record %s of %s is damaged: %w", rec.Key, bucket, err)
	}
	if *version != recordVersion {
		return fmt.Errorf("the record %s of %s has the form %d, and this version of Hearth knows %d: start the version that wrote it, or a later one", rec.Key, bucket, *version, recordVersion)
	}
	return nil
}

// api finds an API of the account. Errors: NotFound.
func (s *Service) api(account hearth.Account, id string) (*record, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r := s.records[id]; r != nil && r.Account == account {
		return r, nil
	}
	return nil, notFound("API", id)
}

// change changes an API of the account by what f makes of a copy, and shows
// what has come of it once it is on disk. What f replaces must be new.
func (s *Service) change(ctx context.Context, account hearth.Account, id string, f func(*record) error) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	old, err := s.api(account, id)
	if err != nil {
		return err
	}
	r := old.clone()
	if err := f(r); err != nil {
		return err
	}
	return s.commit(ctx, old, r)
}

// commit writes a record, with the deployments that stages with autoDeploy get
// by it, and shows it. changing is held. old is nil for a new one.
func (s *Service) commit(ctx context.Context, old, r *record) error {
	if old == nil {
		old = &record{}
	}
	s.autoDeploy(r)
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	added := map[string][]byte{}
	for id, d := range r.deployments {
		if old.deployments[id] != d {
			if added[id], err = json.Marshal(d); err != nil {
				return err
			}
		}
	}
	err = s.Store.Update(ctx, func(tx store.Tx) error {
		for id := range old.deployments {
			if r.deployments[id] == nil {
				if err := tx.Delete(deploymentsBucket, r.API.ID+"/"+id); err != nil {
					return err
				}
			}
		}
		for id, b := range added {
			if err := tx.Put(deploymentsBucket, r.API.ID+"/"+id, b); err != nil {
				return err
			}
		}
		return tx.Put(recordsBucket, r.API.ID, value)
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.records[r.API.ID] = r
	s.mu.Unlock()
	s.show(r)
	return nil
}

// autoDeploy makes a deployment of what is there now for the stages that want
// one at each change, if it is another than they have. Earlier ones that were
// made so and are shown by no stage any more are deleted. changing is held.
func (s *Service) autoDeploy(r *record) {
	var made *deployment
	now := r.current()
	for name, stage := range r.Stages {
		if !stage.AutoDeploy {
			continue
		}
		if was := r.deployments[stage.DeploymentID]; was != nil && reflect.DeepEqual(was.Content, now) {
			continue
		}
		if made == nil {
			made = &deployment{Content: now, Deployment: Deployment{
				Auto: true, Created: s.now(), ID: newID(6), Status: "DEPLOYED",
				Description: "Automatic deployment triggered by changes to the Api configuration",
			}}
			r.deployments[made.ID] = made
		}
		r.Stages[name] = stage.at(made.ID)
	}
	used := map[string]bool{}
	for _, stage := range r.Stages {
		used[stage.DeploymentID] = true
	}
	maps.DeleteFunc(r.deployments, func(id string, d *deployment) bool { return d.Auto && !used[id] })
}

// DeleteAccount deletes all that an account has.
func (s *Service) DeleteAccount(ctx context.Context, account hearth.Account) error {
	s.mu.RLock()
	var apis, names []string
	for id, r := range s.records {
		if r.Account == account {
			apis = append(apis, id)
		}
	}
	for name, d := range s.domains {
		if d.Account == account {
			names = append(names, name)
		}
	}
	s.mu.RUnlock()
	var errs []error
	for _, name := range names {
		errs = append(errs, s.DeleteDomain(ctx, account, name))
	}
	for _, id := range apis {
		errs = append(errs, s.DeleteAPI(ctx, account, id))
	}
	return errors.Join(errs...)
}

// now is the time as the service shows it: in whole seconds.
func (s *Service) now() time.Time { return s.Clock.Now().UTC().Truncate(time.Second) }

// newID makes an id of n letters and digits, the first of which is a letter.
func newID(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, n)
	rand.Read(b) // never fails
	for i := range b {
		first := len(letters)
		if i == 0 {
			first = 26
		}
		b[i] = letters[int(b[i])%first]
	}
	return string(b)
}

// Page is which part of a list is wanted: at most Max after the one whose key
// is After.
type Page struct {
	Max   int
	After string
}

// page takes a part of what is there, in the order of keys; next is "" at the
// end.
func page[T any](m map[string]T, p Page, fits func(T) bool) (list []T, next string) {
	list = []T{}
	last := ""
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if key <= p.After || fits != nil && !fits(m[key]) {
			continue
		}
		if p.Max > 0 && len(list) == p.Max {
			return list, last
		}
		list, last = append(list, m[key]), key
	}
	return list, ""
}
