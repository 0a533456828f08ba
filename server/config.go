package server

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
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
	// PoolMiB is the budget of the warming pool, never exceeded; 0 is no pool.
	PoolMiB int
	// Concurrency is how many invocations of an account run at once.
	Concurrency int
	// IdleMin and IdleMax bound how long a container without work lives;
	// between them its function's request volume decides.
	IdleMin, IdleMax time.Duration

	// Interpreters are directories searched for node and python before PATH
	// and the usual places.
	Interpreters []string
	// StrictRuntimes refuses a runtime whose very version is not on this
	// machine, instead of running it on the nearest one.
	StrictRuntimes bool

	// LogMiB bounds the functions' logs on disk, LogRetention their age.
	LogMiB       int
	LogRetention time.Duration
	// Decisions is how many decisions are kept in memory, DecisionLogMiB
	// bounds their log on disk.
	Decisions      int
	DecisionLogMiB int

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
		Overcommit:     1,
		InstanceMiB:    2048,
		PoolMiB:        256,
		Concurrency:    1000,
		IdleMin:        time.Minute,
		IdleMax:        15 * time.Minute,
		LogMiB:         512,
		LogRetention:   14 * 24 * time.Hour,
		Decisions:      8192,
		DecisionLogMiB: 64,
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
	refuse(c.Region != "" && !regionPattern.MatchString(c.Region), "region: %q is no region, such as us-east-1", c.Region)
	refuse(c.Account != "" && !accountPattern.MatchString(string(c.Account)), "account: %q is not twelve digits", c.Account)

	refuse(c.MemoryMiB != 0 && c.MemoryMiB < 128,
		"memory: %d MiB is less than the smallest function (128); 0 takes what the machine has", c.MemoryMiB)
	refuse(!(c.Overcommit >= 0.1 && c.Overcommit <= 100), "overcommit: %v is not between 0.1 and 100", c.Overcommit)
	refuse(c.InstanceMiB < 128, "instance-memory: %d MiB is less than the smallest function (128)", c.InstanceMiB)
	refuse(c.PoolMiB < 0, "pool: %d MiB is less than none", c.PoolMiB)
	refuse(c.Concurrency < 1, "concurrency: %d lets nothing run", c.Concurrency)
	refuse(c.IdleMin < 0 || c.IdleMax < c.IdleMin,
		"idle-min, idle-max: %v to %v is no range", c.IdleMin, c.IdleMax)
	for _, dir := range c.Interpreters {
		refuse(!filepath.IsAbs(dir), "interpreters: %q is no absolute path", dir)
	}

	refuse(c.LogMiB < 1, "logs: %d MiB holds nothing", c.LogMiB)
	refuse(c.LogRetention < time.Minute, "log-retention: %v is under a minute", c.LogRetention)
	refuse(c.Decisions < 1, "decisions: %d keeps nothing", c.Decisions)
	refuse(c.DecisionLogMiB < 1, "decision-log: %d MiB holds nothing", c.DecisionLogMiB)
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
