package server

import (
	"strings"
	"testing"
	"time"
)

func TestDefaultConfigNeedsOnlyADataFolder(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err == nil || err.Error() != "data: no folder given" {
		t.Errorf("without a folder: %v", err)
	}
	c.DataDir = t.TempDir()
	if err := c.Validate(); err != nil {
		t.Errorf("with a folder: %v", err)
	}
}

func TestEachBadSettingIsRefusedByTheNameOfItsFlag(t *testing.T) {
	for flag, spoil := range map[string]func(*Config){
		"listen":            func(c *Config) { c.Listen = "9070" },
		"region":            func(c *Config) { c.Region = "here" },
		"account":           func(c *Config) { c.Account = "12" },
		"memory":            func(c *Config) { c.MemoryMiB = 64 },
		"overcommit":        func(c *Config) { c.Overcommit = 0 },
		"instance-memory":   func(c *Config) { c.InstanceMiB = 1 },
		"capacity-feed":     func(c *Config) { c.CapacityFeed = "prices.json" },
		"variable-memory":   func(c *Config) { c.VariableMiB = 512 },
		"capacity-poll":     func(c *Config) { c.CapacityPoll = 1 },
		"capacity-stale":    func(c *Config) { c.CapacityStale = 0 },
		"capacity-grace":    func(c *Config) { c.CapacityGrace = -1 },
		"fixed-price":       func(c *Config) { c.FixedPrice = -1 },
		"pool":              func(c *Config) { c.PoolMiB = -1 },
		"concurrency":       func(c *Config) { c.Concurrency = 0 },
		"idle-min":          func(c *Config) { c.IdleMin = c.IdleMax + 1 },
		"idle-worth":        func(c *Config) { c.IdleWorth = 0 },
		"nodes":             func(c *Config) { c.Nodes = "9071" },
		"fleet":             func(c *Config) { c.Fleet = "middle" },
		"fleet-window":      func(c *Config) { c.FleetWindow = 0 },
		"fleet-high":        func(c *Config) { c.FleetHigh = 0 },
		"interpreters":      func(c *Config) { c.Interpreters = []string{"bin"} },
		"logs":              func(c *Config) { c.LogMiB = 0 },
		"log-retention":     func(c *Config) { c.LogRetention = time.Second },
		"decisions":         func(c *Config) { c.Decisions = 0 },
		"decision-log":      func(c *Config) { c.DecisionLogMiB = 0 },
		"image-registries":  func(c *Config) { c.Registries = []string{"https://x"} },
		"schedule-catch-up": func(c *Config) { c.CatchUp = "some" },
		"event-retry":       func(c *Config) { c.EventRetry = 0 },
		"shutdown-grace":    func(c *Config) { c.ShutdownGrace = -1 },
		"log-level":         func(c *Config) { c.LogLevel = "loud" },
		"log-format":        func(c *Config) { c.LogFormat = "xml" },
	} {
		c := DefaultConfig()
		c.DataDir = "/data"
		spoil(&c)
		err := c.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func TestMemoryForFunctionsIsAShareOfTheMachineTimesOvercommit(t *testing.T) {
	machine, err := MachineMiB()
	if err != nil || machine < 64 {
		t.Fatalf("this machine has %d MiB, %v", machine, err)
	}
	c := DefaultConfig()
	if got, err := c.FunctionMiB(); err != nil || got != machine/4*3 {
		t.Errorf("by default %d, %v; want three quarters of %d", got, err, machine)
	}
	c.MemoryMiB, c.Overcommit = 1000, 1.5
	if got, err := c.FunctionMiB(); err != nil || got != 1500 {
		t.Errorf("1000 MiB overcommitted 1.5 times: %d, %v", got, err)
	}
}
