package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/archive"
	"github.com/hearth-faas/hearth/async"
	"github.com/hearth-faas/hearth/capacity"
	"github.com/hearth-faas/hearth/deadline"
	"github.com/hearth-faas/hearth/decision"
	"github.com/hearth-faas/hearth/durable"
	"github.com/hearth-faas/hearth/frontend"
	"github.com/hearth-faas/hearth/gateway"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/iam/wire"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/image"
	"github.com/hearth-faas/hearth/lambda"
	"github.com/hearth-faas/hearth/manager"
	"github.com/hearth-faas/hearth/query"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/runtimes"
	"github.com/hearth-faas/hearth/s3"
	"github.com/hearth-faas/hearth/sandbox/egress"
	"github.com/hearth-faas/hearth/sandbox/namespace"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/files"
	"github.com/hearth-faas/hearth/worker"
	"github.com/hearth-faas/hearth/worker/logs"
)

// How each part is made of the configuration and of those before it, in the
// order in which New opens them.

func (s *Server) openFolder(ctx context.Context) error {
	var folder *store.Folder
	err := s.standBy(ctx, func() (err error) {
		folder, err = store.OpenFolder(s.cfg.DataDir)
		return err
	})
	if err != nil {
		return err
	}
	s.opened("data folder", folder.Close)
	s.cfg.DataDir = folder.Path
	s.authority, err = identity.LoadOrCreate(identity.Config{
		Dir: folder.Path, Account: s.cfg.Account, Region: s.cfg.Region, MasterKey: s.cfg.MasterKeyFile, Clock: s.clock, Log: s.log,
	})
	if err != nil {
		return store.Explain(folder.Path, err)
	}
	s.cfg.Account, s.cfg.Region = s.authority.Root().Account, s.authority.Root().Region
	return nil
}

func (s *Server) dir(name ...string) string {
	return filepath.Join(append([]string{s.cfg.DataDir}, name...)...)
}

// openRecords opens what keeps the decisions and the functions' logs.
func (s *Server) openRecords(context.Context) (err error) {
	s.decisions, err = decision.Open(decision.Config{
		Clock: s.clock, Log: s.log, Keep: s.cfg.Decisions,
		Dir: s.dir("decisions"), MaxBytes: int64(s.cfg.DecisionLogMiB) << 20,
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("decisions", s.decisions.Close)
	s.logs = logs.Begin(logs.Options{
		Dir: s.dir("logs"), Clock: s.clock, Log: s.log,
		MaxBytes: int64(s.cfg.LogMiB) << 20, Retention: s.cfg.LogRetention,
	})
	s.opened("logs", s.logs.Close)
	return nil
}

// awaitLogs waits for what began in openRecords: there may be logs of very many
// functions, and finding them is for the disk what reading the functions is for
// the processor.
func (s *Server) awaitLogs(context.Context) error {
	return store.Explain(s.cfg.DataDir, s.logs.Loaded())
}

func (s *Server) openRuntimes(ctx context.Context) (err error) {
	files := s.dir("runtimes")
	if s.runtimes, err = discover(ctx, s.cfg, files); err != nil {
		return err
	}
	return s.runtimes.Install(ctx)
}

// discover finds this machine's interpreters; files is where the runtime
// clients will be.
func discover(ctx context.Context, cfg Config, files string) (*runtimes.Set, error) {
	return runtimes.Discover(ctx, runtimes.Options{
		Files: files, Dirs: cfg.Interpreters, Path: os.Getenv("PATH"), Home: os.Getenv("HOME"),
		Cache: filepath.Join(cfg.DataDir, "interpreters.json"), Strict: cfg.StrictRuntimes,
	})
}

func (s *Server) openSandboxes(ctx context.Context) (err error) {
	s.network, err = egress.New(egress.Config{Clock: s.clock, Log: s.log})
	if err != nil {
		return fmt.Errorf("the sandboxes' network: %w", err)
	}
	s.opened("network", s.network.Close)
	program := "/proc/self/exe"
	if len(s.cfg.SandboxProgram) > 0 {
		if program, err = namespace.Unpack(s.cfg.DataDir, s.cfg.SandboxProgram); err != nil {
			return store.Explain(s.cfg.DataDir, err)
		}
	}
	s.driver, err = namespace.New(ctx, namespace.Config{
		Program: program, DataDir: s.cfg.DataDir, Network: s.network, Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("the sandboxes: %w", err)
	}
	s.opened("sandboxes", s.driver.Close)
	for _, c := range s.driver.Report().Checks {
		if !c.OK {
			s.log.Warn("not enforced on this machine: "+c.Name, "because", c.Detail, "fix", c.Fix)
		}
	}
	return nil
}

// openImages opens what keeps images. Those that no function has any more go
// when the registry is opened.
func (s *Server) openImages(context.Context) (err error) {
	s.images, err = image.Open(image.Config{
		Dir: s.dir("images"), Paths: s.cfg.ImagePaths, Registries: s.cfg.Registries, Insecure: s.cfg.InsecureRegistries,
		Credentials: s.cfg.RegistryCredentials, Log: s.log,
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("images", s.images.Close)
	return nil
}

// images shows the worker the images of functions.
type images struct{ *image.Store }

func (i images) Acquire(ctx context.Context, f *hearth.Function) (worker.Image, func(), error) {
	got, release, err := i.Store.Acquire(ctx, f.Image.Resolved, f.Package.SHA256, f.Architectures[0])
	if err != nil {
		return worker.Image{}, nil, err
	}
	return worker.Image{Layers: got.Layers, Run: runtimes.Image{
		EntryPoint: got.EntryPoint, Command: got.Command, Env: got.Env, WorkingDirectory: got.WorkingDirectory,
	}}, release, nil
}

func (s *Server) openWorker(context.Context) (err error) {
	s.worker, err = worker.New(worker.Config{
		Driver: s.driver, Runtimes: s.runtimes, Logs: s.logs, Clock: s.clock, Log: s.log, Recorder: s.decisions, Meter: used{s},
		Packages: packages{s}, Images: images{s.images},
		Unpack: func(ctx context.Context, r io.ReaderAt, size int64, dir string) error {
			return archive.Unpack(ctx, r, size, dir, archive.Lambda)
		},
		FullCPUMiB: s.cfg.CPUMiB, LinkBytesPerMiB: s.cfg.linkBytesPerMiB(),
		Session:  s.session,
		Endpoint: "http://" + s.network.Guest().API.String(),
		DataDir:  s.cfg.DataDir, FetchRate: int64(s.cfg.FetchMbit) * 1e6 / 8,
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	return nil
}

// refusal tells why an invocation that waits for a container may not run any
// more. A node has no frontend: its server knows.
func (s *Server) refusal(inv *hearth.Invocation) error {
	if s.frontend == nil {
		return nil
	}
	return s.frontend.Refusal(inv)
}

// session makes the credentials that a function's code finds.
func (s *Server) session(account hearth.Account, function, role string, ttl time.Duration) (identity.Session, error) {
	return s.authority.Mint(identity.Grant{Account: account, Role: role, RoleID: s.roles.Use(role), Name: function}, ttl)
}

// packages lets the worker, which is opened first, read from the registry. It
// may be asked to while the registry is being opened: by what that takes up
// again, and by what is to be ready before anybody calls.
type packages struct{ s *Server }

func (p packages) OpenPackage(ctx context.Context, sha256 string) (io.ReadSeekCloser, int64, error) {
	select {
	case <-p.s.registered:
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	return p.s.registry.OpenPackage(ctx, sha256)
}

func (s *Server) openManager(context.Context) (err error) {
	if err := s.startManager(s.decisions, s.policies.Of, s.weight); err != nil {
		return err
	}
	s.policies.Each(func(account hearth.Account, function string) { s.manager.PolicyChanged(account, function) })
	s.metrics.MustRegister(poolMetrics{s.manager, s.decisions}, updateMetrics{s.manager, s.worker}, sizingMetrics{s.manager})
	return nil
}

// startManager makes the manager of this machine.
func (s *Server) startManager(recorder hearth.Recorder, policy func(hearth.Account, string) *hearth.ExecutionPolicy, weight func(hearth.Account) int) (err error) {
	mib, err := s.cfg.promisedMiB()
	if err != nil {
		return err
	}
	least := map[hearth.Boot]int{"": 2}
	for _, boot := range s.runtimes.Boots() {
		least[boot] = 1
	}
	s.manager, err = manager.New(manager.Config{
		Worker: s.worker, Clock: s.clock, Recorder: recorder, Log: s.log, Policy: policy, Records: s.records, Seed: uint64(s.clock.Now().UnixNano()),
		FullCPUMiB: s.cfg.CPUMiB, LinkBytesPerMiB: s.cfg.linkBytesPerMiB(),
		MachineMiB: mib + s.cfg.PoolMiB, Overcommit: s.cfg.Overcommit, InstanceMiB: s.cfg.InstanceMiB, Pressed: s.load.Pressed, Weight: weight, Refusal: s.refusal,
		PoolBudgetMiB: float64(s.cfg.PoolMiB), PoolMin: least,
		VariableMiB: s.cfg.VariableMiB, FixedPrice: s.cfg.FixedPrice, WithdrawGrace: s.cfg.grace(), Functions: s.functionsOf,
		Life: manager.IdleLife{Min: s.cfg.IdleMin, Max: s.cfg.IdleMax, Worth: float64(s.cfg.IdleWorth)}, KeepThrough: !s.cfg.IdleAhead,
	})
	if err != nil {
		return err
	}
	s.opened("pools", func() error {
		// Whoever may wait for invocations has waited: what still runs ends now.
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.manager.Drain(ended); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	return nil
}

func (s *Server) openRoles(ctx context.Context) (err error) {
	s.roles, err = iam.Open(ctx, iam.Config{Store: s.records, Clock: s.clock, Log: s.log, Strict: s.cfg.StrictRoles, Changed: s.rolesChanged})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("roles", s.roles.Close)
	s.judge = access.New(s.roles, s.clock, s.cfg.Region)
	return s.accounts.Keys().Users(func(account hearth.Account, id string) (string, bool) {
		u := s.roles.UserByID(account, id)
		if u == nil {
			return "", false
		}
		return u.ARN(), true
	})
}

func (s *Server) openRegistry(ctx context.Context) error {
	blobs, err := files.Open(s.dir("blobs"))
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	if err := s.openSources(ctx); err != nil {
		return err
	}
	if err := s.openSigning(ctx, s.records); err != nil {
		return err
	}
	s.registry, err = registry.Open(ctx, registry.Config{
		Store: s.records, Blobs: blobs, Images: s.images, Clock: s.clock, Region: s.cfg.Region, Log: s.log, Secrets: s.authority.Key(), Keys: s.authority.Keys(),
		Verify: s.verify, Prepare: s.worker.Prepare, Overtake: s.overtake, Ahead: s.ahead, Changed: s.functionChanged, Configured: s.urls.Configured,
		Concurrency: s.cfg.Concurrency, Concurrent: s.concurrent, Quota: s.registryQuota,
		Taken: s.claimed, Borrowed: s.borrowed,
	})
	if err != nil {
		return err
	}
	close(s.registered)
	s.opened("registry", s.registry.Close)
	for c := range s.registry.EverySettings() {
		s.urls.Configured(c)
	}
	return nil
}

// functionChanged tells those who go by it that a function is another now.
func (s *Server) functionChanged(old, new *hearth.Function) {
	s.manager.Changed(old, new)
	s.tellNodes(func(n hearth.Node) { n.Changed(old, new) })
	if new == nil && old != nil && old.Version == hearth.Latest {
		if s.predictor != nil {
			s.predictor.Deleted(old.Account, old.Name)
		}
		if s.avoider != nil {
			if err := s.avoider.Set(context.Background(), old.Account, old.Name, nil); err != nil {
				s.log.Warn("what a deleted function was declared to depend on is still there, and would be of the next of its name", "function", old.Name, "error", err)
			}
		}
		if err := s.policies.Set(context.Background(), old.Account, old.Name, nil); err != nil {
			s.log.Warn("the execution policy of a deleted function is still there, and would be that of the next of its name", "function", old.Name, "error", err)
		}
	}
	if s.shares != nil {
		s.shares.OwnerChanged(old, new)
	}
	if new == nil && old != nil && old.Durable != nil && s.durable != nil {
		s.durable.FunctionDeleted(old)
	}
}

// openObjects makes what fetches code from S3. Nothing is asked of it yet.
func (s *Server) openObjects(ctx context.Context) (err error) {
	keys := s.cfg.S3Keys
	if file := s.cfg.S3Credentials; file != "" {
		profile, err := config.LoadSharedConfigProfile(ctx, "default", func(o *config.LoadSharedConfigOptions) {
			o.CredentialsFiles, o.ConfigFiles = []string{file}, []string{}
		})
		if err != nil {
			return fmt.Errorf("s3-credentials: %w", err)
		}
		if keys = profile.Credentials; !keys.HasKeys() {
			return fmt.Errorf("s3-credentials: the default profile of %s has no aws_access_key_id and aws_secret_access_key", file)
		}
	}
	s.objects, err = s3.New(s3.Config{
		Endpoint: s.cfg.S3Endpoint, Region: s.cfg.s3Region(s.cfg.Region), PathStyle: s.cfg.S3PathStyle,
		Credentials: keys, TempDir: s.cfg.DataDir, Clock: s.clock,
	})
	return err
}

func (s *Server) openCapacity(ctx context.Context) (err error) {
	s.capacity, err = capacity.Open(ctx, capacity.Config{
		Store: s.records, Clock: s.clock, Region: s.cfg.Region, Log: s.log, Changed: s.manager.Allot,
		Users: func(account hearth.Account, provider string) bool {
			for range s.registry.PlacedOn(account, provider) {
				return true
			}
			return false
		},
	})
	if err != nil {
		return err
	}
	s.opened("capacity providers", s.capacity.Close)
	return nil
}

// concurrent hears what functions have for themselves of their account's
// concurrency.
func (s *Server) concurrent(c *hearth.Concurrency) {
	s.limits.Set(c)
	s.manager.Provide(c)
	if s.nodes.router != nil {
		s.nodes.router.Pin(c)
	}
}

func (s *Server) openFrontend(context.Context) (err error) {
	s.frontend, err = frontend.New(frontend.Config{
		Functions: s.tasks, Shares: sharedRuns{s}, Manager: s.placer(), Durable: durables{s}, Async: events{s}, Clock: s.clock, Recorder: s.decisions, Policies: s.registry, Observer: s.predictor, Avoider: s.avoider, Accounts: s.accounts, Judge: s.judge,
		Limits: s.limits, Gate: s.gate, Metrics: s.metrics, Updates: s.registry, Policy: s.policies.Of, MayLoop: s.mayLoop, CheckKey: s.authority.Keys().Check,
	})
	if err != nil {
		return err
	}
	return nil
}

// durables lets the frontend, which is opened first, hand on to the durable
// executions, which invoke functions through it.
type durables struct{ s *Server }

func (d durables) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	return d.s.durable.Invoke(ctx, inv)
}

func (s *Server) openDurable(ctx context.Context) (err error) {
	s.durable, err = durable.Open(ctx, durable.Config{
		Store: s.records, Functions: s.registry, Invoker: s.frontend, Done: s.frontend.Done,
		Clock: s.clock, ParseName: lambda.ParseFunctionName, Log: s.log,
	})
	if err != nil {
		return err
	}
	s.opened("durable executions", s.durable.Close)
	return nil
}

func (s *Server) openAsync(ctx context.Context) (err error) {
	s.timing.Room = s.manager.Room
	room, err := s.cfg.FunctionMiB()
	if err != nil {
		return err
	}
	s.async, err = async.Open(ctx, async.Config{
		Store: s.records, Clock: s.clock, Region: s.cfg.Region, Run: s.frontend, Done: s.frontend.Done,
		Policy: s.eventPolicy, Stopped: s.accounts.Suspended, Holds: s.eventHolds, Start: s.eventStart, Places: max(s.cfg.Concurrency/2, 1),
		Delays:  async.Delays{Failed: s.cfg.EventRetry, Missed: async.DefaultDelays.Missed, MissedMax: async.DefaultDelays.MissedMax},
		RoomMiB: room, MiB: s.functionMiB, Senders: s.senders(), Recorder: s.decisions, Log: s.log,
	})
	if err != nil {
		return err
	}
	s.metrics.MustRegister(eventMetrics{s.async})
	return nil
}

func (s *Server) openAPI(context.Context) error {
	s.judge.Tags(s.tagsOf)
	s.accounts.Hold(s.belongings()...)
	api := lambda.New(lambda.Config{
		Registry: functions{s.registry, s.shares}, Mappings: s.mappings, SigningConfigs: s.signing, CheckKey: s.authority.Keys().Check, Invoker: s.frontend, Done: s.frontend.Done, Durable: s.durable, Recorder: s.decisions,
		Credentials: s.authority, Clock: s.clock, Region: s.cfg.Region, Log: s.log,
		Audit: s.audit, Replays: &s.seen, Guard: &s.guard,
		Logs: s.logs, Objects: s.objects, Concurrency: s.cfg.Concurrency, FunctionURL: s.functionURL, Roles: s.roles, Judge: s.judge,
		Queries: map[string]*query.Service{
			"iam": wire.IAM(s.roles, s.accounts.Keys(), s.judge, s.cfg.Region, s.accountSince),
			"sts": wire.STS(s.roles, s.authority, s.judge),
		},
		Neighbours:  s.neighbours(),
		Provisioner: s.manager, CapacityProviders: s.capacity, Rate: s.cfg.APIRate, Quota: s.apiQuota, Within: s.within,
	})
	urls := gateway.New(gateway.Config{
		Index: &s.urls, Invoker: s.frontend, Done: s.frontend.Done, Within: s.within,
		Credentials: s.authority, Clock: s.clock, Region: s.cfg.Region, Log: s.log, Guard: &s.guard,
	})
	s.openDoor(s.proxies.Over(urls.Over(s.apis.Over(s.taskCalls(s.routes(api))))))
	s.inside = s.httpServer(newBudget(insideBodies, &deadline.API{Calls: s.calls, Within: s.within, Serving: s.manager.Serving, Next: urls.Over(s.apis.Over(api))}), access.FromCode)
	return nil
}
