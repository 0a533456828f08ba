package server

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/fleet"
	"github.com/hearth-faas/hearth/image"
	"github.com/hearth-faas/hearth/market"
	"github.com/hearth-faas/hearth/s3"
	"github.com/hearth-faas/hearth/schedule"
	"github.com/hearth-faas/hearth/worker"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Config is everything that a server can be told. It is a plain value: the
// command line fills it from flags, environment and file; a test writes it
// down. DefaultConfig gives the starting point, Validate says what is wrong.
type Config struct {
	// Listen is the TCP address of the API, such as 127.0.0.1:9070; port 0
	// takes a free one.
	Listen string
	// DataDir holds everything that outlives the process. It is made, with
	// mode 0700, if its parent exists or can be made.
	DataDir string
	// Database is the postgres:// URL of the database that keeps the records;
	// "" keeps them in the data folder. DatabasePassword is a file with its
	// password, if that is not in the URL.
	Database, DatabasePassword string
	// InsecureListen lets Listen be an address that other machines reach, where
	// everything goes in plain text.
	InsecureListen bool
	// TLSListen is the TCP address of the API under TLS; "" is none. Its
	// certificates are in TLSCert and TLSKey, files of PEM that are read again
	// when they change: a connection gets the one for the name that it asks for.
	// Or they are had by ACME for ACMEDomains, and with ACMEHostNames for the host
	// names that accounts have for their APIs: from ACMEDirectory ("" is Let's
	// Encrypt's), whose own roots are in the file ACMERoots ("" is the system's),
	// and which may write to ACMEEmail.
	TLSListen                           string
	TLSCert, TLSKey, ACMEDomains        []string
	ACMEHostNames                       bool
	ACMEDirectory, ACMERoots, ACMEEmail string
	// Fair has accounts take turns while the machine is saturated.
	Fair bool
	// MaxConnections is how many connections there may be from outside, and
	// SourceConnections how many of them from one address; 0 is a quarter.
	// SourceRate is how many requests an address may make in a second; 0 is any
	// number.
	MaxConnections, SourceConnections, SourceRate int
	// TrustedProxies are the addresses and networks of reverse proxies whose word
	// is taken for whom they ask, by ForwardedHeader: X-Forwarded-For, with
	// X-Forwarded-Proto, or Forwarded.
	TrustedProxies  []string
	ForwardedHeader string
	// MasterKeyFile is the file of the key that seals secrets, an absolute path;
	// "" is one in the data folder.
	MasterKeyFile string
	// Standby has a server whose data folder or database another one holds wait
	// until that has ended, and take over.
	Standby bool
	// Region and Account are what a first start makes, by default
	// hearth.DefaultRegion and hearth.DefaultAccount; a later start takes what
	// the data folder has, and others than those are an error.
	Region  string
	Account hearth.Account

	// MemoryMiB is what this machine promises to functions at most; 0 is
	// three quarters of what MachineMiB finds.
	MemoryMiB int
	// Overcommit multiplies MemoryMiB: 1 promises nobody what is not there.
	Overcommit float64
	// InstanceMiB is the memory that an instance offers to the containers of
	// its account. An instance made for a larger function is as large as that
	// function.
	InstanceMiB int
	// CPUMiB is the memory that comes with one whole processor. NetworkMbit is
	// the rate of this machine's link, in each direction, of which a function
	// gets the share that it has of MemoryMiB; 0 is that the network is not
	// limited.
	CPUMiB      float64
	NetworkMbit int
	// VariableMiB of that are variable capacity, which is there as CapacityFeed (an
	// absolute path, or a URL) says; 0 is none. The feed is read each
	// CapacityPoll (0: 250 ms, of a URL 5 s), and what it said is gone by for
	// CapacityStale. What runs on variable capacity that goes may go on for
	// CapacityGrace. FixedPrice is what a GiB of all else costs an hour.
	VariableMiB                                int
	CapacityFeed                               string
	CapacityPoll, CapacityStale, CapacityGrace time.Duration
	FixedPrice                                 float64
	// PoolMiB is the budget of the warming pool, never exceeded; 0 is no pool.
	PoolMiB int
	// Concurrency is how many invocations of an account run at once.
	Concurrency int
	// APIRate is how many requests of an account, beside invocations, are
	// served in a second; 0 is any number.
	APIRate int
	// Rate is how many invocations may begin in a second for each of
	// Concurrency, or for each that is reserved for a function; negative is
	// any number.
	Rate int
	// IdleMin and IdleMax bound how long a container without work lives;
	// between them decides what is known of its function's idle times.
	IdleMin, IdleMax time.Duration
	// IdleWorth is how many MiB·s of waiting it is worth to spare one cold
	// start.
	IdleWorth int
	// IdleAhead has containers made anew before they are expected to be called;
	// else they are kept until then.
	IdleAhead bool

	// Nodes is the TCP address at which nodes join; "" is that none may. Fleet
	// is which code this machine's own node is for: low, high, or auto.
	// FleetWindow is over which time it is counted how often code is called,
	// and FleetHigh how many invocations in it are often.
	Nodes, Fleet string
	FleetWindow  time.Duration
	FleetHigh    int

	// Interpreters are directories searched for node and python before PATH
	// and the usual places.
	Interpreters []string
	// StrictRuntimes refuses a runtime whose very version is not on this
	// machine, instead of running it on the nearest one.
	StrictRuntimes bool
	// StrictRoles refuses a function whose role IAM here does not have,
	// instead of taking it for somebody else's to keep.
	StrictRoles bool

	// LogMiB bounds the functions' logs on disk, LogRetention their age.
	LogMiB       int
	LogRetention time.Duration
	// Decisions is how many decisions are kept in memory, DecisionLogMiB
	// bounds their log on disk.
	Decisions      int
	DecisionLogMiB int

	// AuditMiB bounds the audit log on disk, and AuditRetention how long its
	// records are kept.
	AuditMiB       int
	AuditRetention time.Duration

	// EventRetry is how long an asynchronous invocation that failed waits for
	// its first retry; the second waits twice as long.
	EventRetry time.Duration
	// CatchUp is what becomes of the times of schedules at which the server did
	// not run.
	CatchUp schedule.CatchUp
	// FetchMbit bounds how fast code packages come from the store to where they
	// are run, in megabits a second; 0 is any rate.
	FetchMbit int
	// S3Endpoint is where code from S3 is taken from: http://HOST:PORT,
	// https://HOST, or file:///FOLDER whose folders are the buckets; "" is
	// nowhere. S3Region is what requests are signed for, S3PathStyle puts the
	// bucket into the path.
	S3Endpoint, S3Region string
	S3PathStyle          bool
	// S3Credentials is a file as the AWS tools have it, whose default profile
	// signs the requests. Where it is "", S3Keys does, and without those they
	// are unsigned.
	S3Credentials string
	S3Keys        aws.Credentials

	// ImagePaths are folders whose OCI layouts and archives functions may come
	// from. Registries (HOST, HOST:PORT or *.DOMAIN) are those that they may
	// come from, any if empty; InsecureRegistries (HOST or HOST:PORT) may be
	// asked without TLS, beside those on loopback; RegistryCredentials is a
	// file as docker login writes it.
	ImagePaths          []string
	Registries          []string
	InsecureRegistries  []string
	RegistryCredentials string

	// DependencyPaths are folders in which what a function depends on may be:
	// files, databases of SQLite and Unix sockets. DependencyHosts (IP:PORT) may
	// be asked about it though functions themselves can't reach them, such as
	// those on loopback.
	DependencyPaths []string
	DependencyHosts []string

	// Execution is who runs the functions of proxy APIs.
	Execution ExecutionConfig

	// HTTPBackends (IP:PORT) are addresses of this machine, or others that are
	// not called for accounts otherwise, that HTTP APIs may hand requests on to
	// and ask for the keys of tokens.
	HTTPBackends []string

	// OwnNames are the host names by which clients reach this server, beside
	// those of Listen and of the machine. No account can have its HTTP APIs
	// answer under one of them.
	OwnNames []string

	// ShutdownGrace is how long running invocations may take to end once the
	// server was told to stop.
	ShutdownGrace time.Duration
	// Metrics serves /metrics, unsigned, to whoever reaches Listen.
	Metrics bool
	// LogLevel (debug, info, warn, error) and LogFormat (text, json) are of
	// the server's own log.
	LogLevel, LogFormat string

	// The rest is not for users: the program that embeds the server sets it.

	// Version is what the server calls itself.
	Version string
	// SandboxProgram is the executable that runs inside sandboxes. Empty
	// means that this process's own executable serves as it, by its first
	// argument.
	SandboxProgram []byte
	// Log overrides LogLevel and LogFormat.
	Log *slog.Logger
}

// DefaultConfig is the configuration of a server that was told nothing, but
// for DataDir, which has no default here.
func DefaultConfig() Config {
	return Config{
		Listen:         "127.0.0.1:9070",
		Fair:           true,
		MaxConnections: 8192, ForwardedHeader: ForwardedHeaders[0],
		Overcommit:     1,
		InstanceMiB:    2048,
		CPUMiB:         worker.DefaultFullCPUMiB,
		PoolMiB:        256,
		CapacityStale:  time.Minute,
		CapacityGrace:  30 * time.Second,
		Concurrency:    1000,
		Rate:           10,
		APIRate:        500,
		IdleMin:        10 * time.Second,
		IdleMax:        4 * time.Hour,
		IdleWorth:      300_000,
		IdleAhead:      true,
		Fleet:          "auto",
		FleetWindow:    fleet.DefaultCriteria.Window,
		FleetHigh:      int(fleet.DefaultCriteria.High),
		LogMiB:         512,
		LogRetention:   14 * 24 * time.Hour,
		Decisions:      8192,
		DecisionLogMiB: 64,
		AuditMiB:       256,
		AuditRetention: 90 * 24 * time.Hour,
		EventRetry:     time.Minute,
		CatchUp:        schedule.Last,
		S3PathStyle:    true,
		ShutdownGrace:  30 * time.Second,
		Metrics:        true,
		LogLevel:       "info",
		LogFormat:      "text",
		Version:        "devel",
	}
}

var (
	regionPattern  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
	accountPattern = regexp.MustCompile(`^[0-9]{12}$`)
)

// Validate reports every setting that can't be, each by the name of its flag,
// in one error.
func (c Config) Validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	_, port, err := net.SplitHostPort(c.Listen)
	n, perr := strconv.Atoi(port)
	refuse(err != nil || perr != nil || n < 0 || n > 65535,
		"listen: %q is no HOST:PORT, such as 127.0.0.1:9070", c.Listen)
	refuse(c.DataDir == "", "data: no folder given")
	if err := c.checkDatabase(); err != nil {
		refuse(true, "database: %w", err)
	}
	c.checkDoor(refuse)
	refuse(c.MasterKeyFile != "" && !filepath.IsAbs(c.MasterKeyFile), "master-key-file: %q is no absolute path", c.MasterKeyFile)
	refuse(c.Region != "" && !regionPattern.MatchString(c.Region), "region: %q is no region, such as us-east-1", c.Region)
	refuse(c.Account != "" && !accountPattern.MatchString(string(c.Account)), "account: %q is not twelve digits", c.Account)

	refuse(c.MemoryMiB != 0 && c.MemoryMiB < 128,
		"memory: %d MiB is less than the smallest function (128); 0 takes what the machine has", c.MemoryMiB)
	refuse(!(c.Overcommit >= 0.1 && c.Overcommit <= 100), "overcommit: %v is not between 0.1 and 100", c.Overcommit)
	refuse(c.InstanceMiB < 128, "instance-memory: %d MiB is less than the smallest function (128)", c.InstanceMiB)
	refuse(!(c.CPUMiB >= 1 && c.CPUMiB <= 1<<20), "cpu-memory: %v MiB is not between 1 and 1048576", c.CPUMiB)
	refuse(c.NetworkMbit < 0, "network-mbit: %d is no rate; 0 is no limit", c.NetworkMbit)
	if c.CapacityFeed != "" {
		if err := market.CheckSource(c.CapacityFeed); err != nil {
			refuse(true, "capacity-feed: %w", err)
		}
	}
	refuse(c.VariableMiB < 0, "variable-memory: %d MiB is less than none", c.VariableMiB)
	refuse(c.VariableMiB > 0 && c.CapacityFeed == "", "variable-memory: nothing tells when there is any; add --capacity-feed FILE or URL")
	refuse(c.CapacityPoll != 0 && c.CapacityPoll < 10*time.Millisecond, "capacity-poll: %v is less than 10ms", c.CapacityPoll)
	refuse(c.CapacityStale < time.Second, "capacity-stale: %v is less than a second", c.CapacityStale)
	refuse(c.CapacityGrace < 0, "capacity-grace: %v is less than none", c.CapacityGrace)
	refuse(!(c.FixedPrice >= 0 && c.FixedPrice <= market.MaxPrice), "fixed-price: %v is no price", c.FixedPrice)
	refuse(c.PoolMiB < 0, "pool: %d MiB is less than none", c.PoolMiB)
	refuse(c.APIRate < 0, "api-rate: %d is no rate; 0 is no limit", c.APIRate)
	refuse(c.Rate == 0, "rate: 0 lets nothing run; a negative number is no limit")
	refuse(c.Concurrency < 1, "concurrency: %d lets nothing run", c.Concurrency)
	refuse(c.IdleMin < 0 || c.IdleMax < c.IdleMin,
		"idle-min, idle-max: %v to %v is no range", c.IdleMin, c.IdleMax)
	refuse(c.IdleWorth < 1, "idle-worth: %d MiB·s is less than 1", c.IdleWorth)
	if c.Nodes != "" {
		_, port, err := net.SplitHostPort(c.Nodes)
		n, perr := strconv.Atoi(port)
		refuse(err != nil || perr != nil || n < 0 || n > 65535, "nodes: %q is no HOST:PORT, such as 127.0.0.1:9071", c.Nodes)
	}
	refuse(!slices.Contains(Fleets, c.Fleet), "fleet: %q is none of %s", c.Fleet, strings.Join(Fleets, ", "))
	refuse(c.FleetWindow < time.Second || c.FleetWindow > 24*time.Hour, "fleet-window: %v is not between a second and a day", c.FleetWindow)
	refuse(c.FleetHigh < 1, "fleet-high: %d is no number of invocations", c.FleetHigh)
	for _, dir := range c.Interpreters {
		refuse(!filepath.IsAbs(dir), "interpreters: %q is no absolute path", dir)
	}

	refuse(c.LogMiB < 1, "logs: %d MiB holds nothing", c.LogMiB)
	refuse(c.LogRetention < time.Minute, "log-retention: %v is under a minute", c.LogRetention)
	refuse(c.Decisions < 1, "decisions: %d keeps nothing", c.Decisions)
	refuse(c.DecisionLogMiB < 1, "decision-log: %d MiB holds nothing", c.DecisionLogMiB)
	refuse(c.AuditMiB < 1, "audit-log: %d MiB holds nothing", c.AuditMiB)
	refuse(c.AuditRetention < time.Hour, "audit-retention: %v is under an hour", c.AuditRetention)
	refuse(c.FetchMbit < 0, "fetch-mbit: %d is no rate; 0 is no limit", c.FetchMbit)
	refuse(c.EventRetry < time.Millisecond, "event-retry: %v is less than a millisecond", c.EventRetry)
	refuse(c.CatchUp != schedule.Skip && c.CatchUp != schedule.Last && c.CatchUp != schedule.All,
		"schedule-catch-up: %q is none of skip, last, all", c.CatchUp)
	if err := s3.CheckEndpoint(c.S3Endpoint); err != nil {
		refuse(true, "s3-endpoint: %w", err)
	}
	refuse(c.S3Region != "" && !regionPattern.MatchString(c.S3Region), "s3-region: %q is no region, such as us-east-1", c.S3Region)
	refuse(c.S3Credentials != "" && !filepath.IsAbs(c.S3Credentials), "s3-credentials: %q is no absolute path", c.S3Credentials)
	for _, dir := range c.ImagePaths {
		refuse(!filepath.IsAbs(dir) || filepath.Clean(dir) != dir, "image-paths: %q is no clean absolute path", dir)
	}
	for _, dir := range c.DependencyPaths {
		refuse(!filepath.IsAbs(dir) || filepath.Clean(dir) != dir, "dependency-paths: %q is no clean absolute path", dir)
	}
	for _, host := range c.DependencyHosts {
		_, err := netip.ParseAddrPort(host)
		refuse(err != nil, "dependency-hosts: %q is not IP:PORT", host)
	}
	for _, host := range c.HTTPBackends {
		_, err := netip.ParseAddrPort(host)
		refuse(err != nil, "http-backends: %q is not IP:PORT", host)
	}
	for _, registry := range c.Registries {
		if err := image.CheckRegistry(registry); err != nil {
			refuse(true, "image-registries: %q: %w", registry, err)
		}
	}
	refuse(c.RegistryCredentials != "" && !filepath.IsAbs(c.RegistryCredentials), "image-credentials: %q is no absolute path", c.RegistryCredentials)
	if err := c.Execution.check(); err != nil {
		refuse(true, "%w", err)
	}
	refuse(c.ShutdownGrace < 0, "shutdown-grace: %v is less than none", c.ShutdownGrace)
	refuse(!slices.Contains(LogLevels, c.LogLevel),
		"log-level: %q is none of %s", c.LogLevel, strings.Join(LogLevels, ", "))
	refuse(!slices.Contains(LogFormats, c.LogFormat),
		"log-format: %q is none of %s", c.LogFormat, strings.Join(LogFormats, ", "))
	return errors.Join(errs...)
}

// LogLevels and LogFormats are what Config.LogLevel and Config.LogFormat may
// be.
var (
	LogLevels  = []string{"debug", "info", "warn", "error"}
	LogFormats = []string{"text", "json"}
	// Fleets are what Config.Fleet may be.
	Fleets = []string{"low", "high", "auto"}
)

// Logger is c.Log, or one that writes to standard error as LogLevel and
// LogFormat say. c must be valid.
func (c Config) Logger() *slog.Logger {
	if c.Log != nil {
		return c.Log
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo // only of a Config that Validate refuses
	}
	opts := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}

// grace is CapacityGrace as the manager takes it, for whom 0 is its own.
func (c Config) grace() time.Duration {
	if c.CapacityGrace == 0 {
		return -1
	}
	return c.CapacityGrace
}

// promisedMiB is MemoryMiB, or three quarters of the machine's.
func (c Config) promisedMiB() (int, error) {
	if c.MemoryMiB != 0 {
		return c.MemoryMiB, nil
	}
	machine, err := MachineMiB()
	if err != nil {
		return 0, fmt.Errorf("memory: can't find out how much this machine has, so say it with --memory: %w", err)
	}
	return machine / 4 * 3, nil
}

// linkBytesPerMiB is how many bytes a second of the network come with a MiB of
// memory; 0 is any number.
func (c Config) linkBytesPerMiB() float64 {
	mib, err := c.promisedMiB()
	if err != nil || mib == 0 { // the manager says so
		return 0
	}
	return float64(c.NetworkMbit) * 1e6 / 8 / float64(mib)
}

// FunctionMiB is the memory that may be promised to functions: MemoryMiB, or
// three quarters of the machine's, times Overcommit.
func (c Config) FunctionMiB() (int, error) {
	mib, err := c.promisedMiB()
	return int(math.Round(float64(mib) * c.Overcommit)), err
}

// MachineMiB is the memory that this process can use: the machine's, or its
// control group's limit where that is lower, as in a container.
func MachineMiB() (int, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	var kib int64
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
				return 0, fmt.Errorf("/proc/meminfo: MemTotal: %w", err)
			}
		}
	}
	if kib == 0 {
		return 0, errors.New("/proc/meminfo has no MemTotal")
	}
	mib := kib / 1024
	// The root of the mounted hierarchy: in a container, that is its limit.
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		limit, err := os.ReadFile(file)
		if err != nil {
			continue // the other version of cgroups, or none
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64); err == nil && n>>20 < mib {
			mib = n >> 20 // "max" does not parse, and is no limit
		}
	}
	return int(mib), nil
}

// s3Region is the region that requests to S3 are signed for, on a server of
// that region.
func (c *Config) s3Region(own string) string { return cmp.Or(c.S3Region, own) }
