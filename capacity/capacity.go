// Package capacity keeps capacity providers. In the service a provider stands
// for instances of its own; here it is a named share of this machine, which
// bounds what the functions that are placed on it may use.
//
// All of it is in memory and on disk. What a caller was told survives.
package capacity

import (
	"context"
	"iter"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/table"
	"github.com/hearth-faas/hearth/tags"
)

// State is where a provider is in its life, as the Lambda API spells it.
type State string

// The states.
const (
	Pending  State = "Pending"
	Active   State = "Active"
	Deleting State = "Deleting"
)

// Provider is a capacity provider. The JSON names are those on disk. A
// *Provider that was handed out is read-only.
type Provider struct {
	Account  hearth.Account `json:"account"`
	Region   string         `json:"region"`
	Name     string         `json:"name"`
	State    State          `json:"state"`
	Modified time.Time      `json:"modified"`

	// Scaling is honoured by its MaxVCPUs; the rest of it, like what follows,
	// is kept and answered.
	Scaling Scaling `json:"scaling"`

	OperatorRole     string            `json:"operatorRole"`
	SubnetIDs        []string          `json:"subnetIds"`
	SecurityGroupIDs []string          `json:"securityGroupIds"`
	Requirements     *Requirements     `json:"requirements,omitempty"`
	KMSKeyARN        string            `json:"kmsKeyArn,omitempty"`
	Propagate        *Propagate        `json:"propagate,omitempty"`
	Logging          *Logging          `json:"logging,omitempty"`
	Tags             map[string]string `json:"tags,omitempty"`
}

// Scaling is how far a provider may grow.
type Scaling struct {
	MaxVCPUs int      `json:"maxVCpuCount"` // of all environments at once
	Mode     string   `json:"mode"`         // "Auto" or "Manual"
	Policies []Policy `json:"policies,omitempty"`
}

// Policy has a provider follow a metric.
type Policy struct {
	Metric string  `json:"metric"`
	Target float64 `json:"target"`
}

// Requirements are of the instances that the service would take.
type Requirements struct {
	Architectures []string `json:"architectures,omitempty"`
	Allowed       []string `json:"allowed,omitempty"`  // instance types
	Excluded      []string `json:"excluded,omitempty"` // instance types
}

// Propagate is which tags the service would put on those.
type Propagate struct {
	Mode string            `json:"mode"` // "None" or "Explicit"
	Tags map[string]string `json:"tags,omitempty"`
}

// Logging is where the service would log of them.
type Logging struct {
	Group       string `json:"group,omitempty"`
	SystemLevel string `json:"systemLevel,omitempty"`
}

// ARN is the provider's ARN.
func (p *Provider) ARN() string { return arn(p.Region, p.Account, p.Name) }

func arn(region string, account hearth.Account, name string) string {
	return "arn:aws:lambda:" + region + ":" + string(account) + ":capacity-provider:" + name
}

// DefaultMaxVCPUs is the service's when none is asked for.
const DefaultMaxVCPUs = 400

// Config is what Providers work with. All but Changed, Limit and Log must be
// set.
type Config struct {
	Store  store.Store
	Clock  hearth.Clock
	Region string
	// Users tells whether a function version is placed on the provider.
	Users func(account hearth.Account, arn string) bool
	// Changed is told of each provider before it becomes Active, when it
	// changed, and with vcpus 0 when it has gone. nil is no one.
	Changed func(arn string, vcpus int)
	// Limit is how many an account may have; 0 is the service's 1,000.
	Limit int
	Log   *slog.Logger // nil is slog.Default
}

// Providers are the capacity providers. Safe for concurrent use.
type Providers struct {
	cfg   Config
	table *table.Table[Provider]

	mu     sync.Mutex
	closed bool
	jobs   sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
}

// Open reads them, and goes on with what a stop interrupted. The caller closes
// the store after them.
func Open(ctx context.Context, cfg Config) (*Providers, error) {
	if cfg.Changed == nil {
		cfg.Changed = func(string, int) {}
	}
	if cfg.Limit == 0 {
		cfg.Limit = 1000
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	t, err := table.Open[Provider](ctx, cfg.Store, "capacityproviders")
	if err != nil {
		return nil, err
	}
	ps := &Providers{cfg: cfg, table: t}
	ps.ctx, ps.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for key, p := range t.Scan("", "") {
		cfg.Changed(p.ARN(), p.Scaling.MaxVCPUs)
		ps.settle(key, p)
	}
	return ps, nil
}

// Close ends what is in progress, which the next Open takes up again.
func (ps *Providers) Close() error {
	ps.mu.Lock()
	ps.closed = true
	ps.mu.Unlock()
	ps.cancel()
	ps.jobs.Wait()
	return nil
}

func key(account hearth.Account, name string) string { return string(account) + "/" + name }

// settle brings a provider to the end of its transition, in the background.
func (ps *Providers) settle(key string, p *Provider) {
	if p.State == Active {
		return
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if !ps.closed {
		ps.jobs.Go(func() { ps.conclude(key, time.Second) })
	}
}

// conclude commits the end of a transition. While that fails, which is the
// disk's fault, it is tried again.
func (ps *Providers) conclude(key string, again time.Duration) {
	gone := ""
	_, err := ps.table.Change(ps.ctx, key, func(old *Provider) (*Provider, error) {
		switch {
		case old == nil:
			return nil, nil
		case old.State == Deleting:
			gone = old.ARN()
			return nil, nil
		}
		p := *old
		p.State = Active
		return &p, nil
	})
	switch {
	case err == nil && gone != "":
		ps.cfg.Changed(gone, 0)
	case err == nil || ps.ctx.Err() != nil:
	default:
		ps.cfg.Log.Error("a capacity provider's state could not be stored; it will be tried again", "provider", key, "in", again, "error", err)
		ps.cfg.Clock.AfterFunc(again, func() {
			ps.mu.Lock()
			defer ps.mu.Unlock()
			if !ps.closed {
				ps.jobs.Go(func() { ps.conclude(key, min(2*again, time.Minute)) })
			}
		})
	}
}

// Create makes a provider of p's account, name and settings. It is Pending
// when Create returns and becomes Active by itself. Errors: ResourceConflict
// if there is one of the name, CapacityProviderLimitExceeded,
// InvalidParameterValue.
func (ps *Providers) Create(ctx context.Context, p Provider) (*Provider, error) {
	p.Region, p.State, p.Modified = ps.cfg.Region, Pending, ps.cfg.Clock.Now().UTC().Round(0)
	if err := p.complete(); err != nil {
		return nil, err
	}
	p.Tags = maps.Clone(p.Tags)
	k := key(p.Account, p.Name)
	made, err := ps.table.Change(ctx, k, func(old *Provider) (*Provider, error) {
		if old != nil {
			return nil, hearth.Errorf(hearth.Conflict, "Capacity provider already exists: %s", old.ARN())
		}
		n := 0
		for range ps.table.Scan(string(p.Account)+"/", "") {
			n++
		}
		if n >= ps.cfg.Limit {
			return nil, hearth.Errorf(hearth.CapacityProviderLimit, "The maximum number of capacity providers for your account has been exceeded: %d.", ps.cfg.Limit)
		}
		return &p, nil
	})
	if err != nil {
		return nil, err
	}
	ps.cfg.Changed(made.ARN(), made.Scaling.MaxVCPUs)
	ps.settle(k, made)
	return made, nil
}

// complete fills in what the service does, and checks what its model does not
// tell.
func (p *Provider) complete() error {
	s := &p.Scaling
	if s.MaxVCPUs == 0 {
		s.MaxVCPUs = DefaultMaxVCPUs
	}
	if s.Mode == "" {
		s.Mode = "Auto"
	}
	switch {
	case s.Mode == "Auto" && len(s.Policies) > 0:
		return hearth.Errorf(hearth.InvalidParameter, "ScalingPolicies can be set with the ScalingMode Manual only.")
	case s.Mode == "Manual" && len(s.Policies) == 0:
		return hearth.Errorf(hearth.InvalidParameter, "The ScalingMode Manual needs ScalingPolicies.")
	case p.Requirements != nil && len(p.Requirements.Allowed) > 0 && len(p.Requirements.Excluded) > 0:
		return hearth.Errorf(hearth.InvalidParameter, "Only one of AllowedInstanceTypes and ExcludedInstanceTypes can be set.")
	}
	return tags.Check(p.Tags)
}

// Get returns a provider by its name or ARN. Errors: ResourceNotFound.
func (ps *Providers) Get(account hearth.Account, name string) (*Provider, error) {
	name = ps.nameOf(account, name)
	if p := ps.table.Get(key(account, name)); p != nil {
		return p, nil
	}
	return nil, ps.notFound(account, name)
}

func (ps *Providers) notFound(account hearth.Account, name string) error {
	return hearth.Errorf(hearth.NotFound, "Capacity provider not found: %s", arn(ps.cfg.Region, account, name))
}

// nameOf is the name in an ARN of the account, else the name itself.
func (ps *Providers) nameOf(account hearth.Account, name string) string {
	return strings.TrimPrefix(name, arn(ps.cfg.Region, account, ""))
}

// List yields the account's providers in the order of their names, those after
// a name.
func (ps *Providers) List(account hearth.Account, after string) iter.Seq[*Provider] {
	return func(yield func(*Provider) bool) {
		from := ""
		if after != "" {
			from = key(account, after)
		}
		for _, p := range ps.table.Scan(string(account)+"/", from) {
			if !yield(p) {
				return
			}
		}
	}
}

// Update changes a provider in place by change, which gets a copy. Errors:
// ResourceNotFound, ResourceConflict while it is being deleted,
// InvalidParameterValue, and those of change.
func (ps *Providers) Update(ctx context.Context, account hearth.Account, name string, change func(*Provider) error) (*Provider, error) {
	name = ps.nameOf(account, name)
	p, err := ps.table.Change(ctx, key(account, name), func(old *Provider) (*Provider, error) {
		switch {
		case old == nil:
			return nil, ps.notFound(account, name)
		case old.State == Deleting:
			return nil, hearth.Errorf(hearth.Conflict, "The operation cannot be performed at this time. The capacity provider is currently in the following state: %s", old.State)
		}
		p := *old
		p.Tags = maps.Clone(old.Tags)
		if err := change(&p); err != nil {
			return nil, err
		}
		if err := p.complete(); err != nil {
			return nil, err
		}
		p.Modified = ps.cfg.Clock.Now().UTC().Round(0)
		return &p, nil
	})
	if err != nil {
		return nil, err
	}
	ps.cfg.Changed(p.ARN(), p.Scaling.MaxVCPUs)
	return p, nil
}

// Delete begins to remove a provider that no function version is placed on,
// and returns it as Deleting. Errors: ResourceNotFound, ResourceConflict.
func (ps *Providers) Delete(ctx context.Context, account hearth.Account, name string) (*Provider, error) {
	name = ps.nameOf(account, name)
	k := key(account, name)
	p, err := ps.table.Change(ctx, k, func(old *Provider) (*Provider, error) {
		switch {
		case old == nil:
			return nil, ps.notFound(account, name)
		case ps.cfg.Users(account, old.ARN()):
			return nil, hearth.Errorf(hearth.Conflict, "The capacity provider %s cannot be deleted because function versions use it.", old.ARN())
		}
		p := *old
		p.State, p.Modified = Deleting, ps.cfg.Clock.Now().UTC().Round(0)
		return &p, nil
	})
	if err != nil {
		return nil, err
	}
	ps.settle(k, p)
	return p, nil
}
