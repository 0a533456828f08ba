package namespace

import (
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/namespace/inside"
)

func TestHierarchiesAreFoundOnEverySortOfMachine(t *testing.T) {
	for _, test := range []struct {
		name, mounts, own string
		want              []hierarchy
	}{
		{
			"second version alone",
			"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
			"0::/system.slice/hearth.service\n",
			[]hierarchy{{dir: "/sys/fs/cgroup/system.slice/hearth.service", top: "/sys/fs/cgroup", second: true}},
		},
		{
			"first version with controllers mounted together, the second beside it",
			"33 32 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" +
				"36 32 0:32 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
				"37 32 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
				"38 32 0:34 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n" +
				"39 32 0:35 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls\n",
			"4:net_cls:/\n3:memory:/deep/one\n2:cpu,cpuacct:/deep\n1:name=systemd:/\n0::/\n",
			[]hierarchy{
				{dir: "/sys/fs/cgroup/unified", top: "/sys/fs/cgroup/unified", second: true},
				{dir: "/sys/fs/cgroup/cpu,cpuacct/deep", top: "/sys/fs/cgroup/cpu,cpuacct", controllers: []string{"cpu", "cpuacct"}},
				{dir: "/sys/fs/cgroup/memory/deep/one", top: "/sys/fs/cgroup/memory", controllers: []string{"memory"}},
			},
		},
		{
			"in a container that sees its own part, mounted twice",
			"37 32 0:33 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n" +
				"38 32 0:33 /docker/abc /mnt/memory rw - cgroup cgroup rw,memory\n",
			"3:memory:/docker/abc/x\n",
			[]hierarchy{{dir: "/sys/fs/cgroup/memory/x", top: "/sys/fs/cgroup/memory", controllers: []string{"memory"}}},
		},
		{"none", "30 23 0:26 / /proc rw - proc proc rw\nnonsense\n", "", nil},
	} {
		if got := findHierarchies(test.mounts, test.own); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, not %+v", test.name, got, test.want)
		}
	}
}

func FuzzFindHierarchies(f *testing.F) {
	f.Add("30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n", "0::/a\n")
	f.Add("36 32 0:32 /x /c rw - cgroup cgroup rw,cpu,cpuacct\n", "2:cpu,cpuacct:/x/y\n")
	f.Fuzz(func(t *testing.T, mounts, own string) {
		for _, h := range findHierarchies(mounts, own) {
			if h.second == (len(h.controllers) > 0) {
				t.Errorf("%+v is of no version", h)
			}
		}
	})
}

// TestLimitsOfTheSecondVersion writes into a folder that stands for a group:
// whether the kernel of the machine has the controllers in the second version
// is not in a test's hand.
func TestLimitsOfTheSecondVersion(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "i", "c")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"memory.max", "memory.swap.max", "cpu.max", "pids.max", "memory.events", "memory.current", "memory.peak", "cpu.stat", "cgroup.procs"} {
		content := map[string]string{
			"memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 0\n", "memory.current": "4096\n", "memory.peak": "8192\n",
			"cpu.stat": "usage_usec 1500\nuser_usec 1000\n", "cgroup.procs": "10\n11\n12\n",
		}[name]
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	g := &group{c: &cgroups{v2: top, unified: []string{"memory", "cpu", "pids"}}, path: "i/c"}
	var before sandbox.Limits
	for _, test := range []struct {
		limits sandbox.Limits
		want   string // memory.max, memory.swap.max, cpu.max, pids.max
	}{
		{sandbox.Limits{MemoryBytes: 1 << 20, CPUs: 0.5, Processes: 10}, "1048576 0 50000 100000 18"},
		{sandbox.Limits{MemoryBytes: 2 << 20, CPUs: 0.001, Processes: 1}, "2097152 0 1000 100000 9"},
		{sandbox.Limits{}, "max 0 max 100000 max"},
	} {
		for _, name := range []string{"memory.max", "memory.swap.max", "cpu.max", "pids.max"} {
			if err := os.Truncate(filepath.Join(dir, name), 0); err != nil { // a cgroup's file does so by itself
				t.Fatal(err)
			}
		}
		if err := g.limit(before, test.limits); err != nil {
			t.Fatal(err)
		}
		before = test.limits
		var got []string
		for _, name := range []string{"memory.max", "memory.swap.max", "cpu.max", "pids.max"} {
			content, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(content))
		}
		if all := strings.Join(got, " "); all != test.want {
			t.Errorf("%+v: %q, not %q", test.limits, all, test.want)
		}
	}
	if n := g.oomKills(); n != 2 {
		t.Errorf("%d kills, not 2", n)
	}
	if u, err := g.usage(); err != nil || u.MemoryBytes != 4096 || u.PeakBytes != 8192 || u.CPU.Microseconds() != 1500 || u.Processes != 2 {
		t.Errorf("usage is %+v, %v", u, err)
	}
}

// While a driver is to go first, its process is in a group beside the instances that
// weighs more than they do together, where the first version has the controller; else
// where it was. What the group weighs, the instances' parent weighs more.
func TestTheServerIsInAGroupOfItsOwnWhileItGoesFirst(t *testing.T) {
	in := func() string {
		t.Helper()
		content, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 && slices.Contains(strings.Split(f[1], ","), cpuController) {
				return f[2]
			}
		}
		return ""
	}
	weight := func(dir string) int {
		t.Helper()
		content, err := os.ReadFile(filepath.Join(dir, "cpu.shares"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(content)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	was := in()
	d, err := New(t.Context(), Config{Program: programPath, DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	containers, server := d.groups.v1[cpuController], d.groups.server
	if (containers == "") != (server == "") {
		t.Errorf("containers are in %q, the server's group is %q: %v", containers, server, d.groups.why)
	}
	ordinary := 0
	if server != "" {
		ordinary = weight(containers)
	}
	for _, first := range []bool{true, false, true} {
		if err := d.GoFirst(first); err != nil {
			t.Fatal(err)
		}
		got := in()
		if server == "" {
			continue
		}
		if goes := isServerGroup(got); goes != first || goes && filepath.Base(filepath.Dir(got)) != filepath.Base(containers) {
			t.Errorf("going first is %v: the server is in %s", first, got)
		}
		own := 0
		if first {
			own = weight(server)
		}
		if left := weight(containers) - own; left != ordinary {
			t.Errorf("going first is %v: the instances weigh %d, and did %d", first, left, ordinary)
		}
		if weight(server) < 2*ordinary {
			t.Errorf("the server weighs %d, the instances %d", weight(server), ordinary)
		}
	}
	if server != "" {
		// A spawner that is started meanwhile is not of the group.
		p := d.spawn.live
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-p.gone
		if err := d.spawn.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		pids, err := os.ReadFile(filepath.Join(server, "cgroup.procs"))
		if err != nil || strings.TrimSpace(string(pids)) != strconv.Itoa(os.Getpid()) {
			t.Errorf("in the server's group are %q, %v", pids, err)
		}
		// A second one of this process is beside it, not below.
		other, err := New(t.Context(), Config{Program: programPath, DataDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if got := filepath.Dir(other.groups.v1[cpuController]); got != filepath.Dir(containers) {
			t.Errorf("another driver's groups are in %s", got)
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
		if got := in(); !isServerGroup(got) {
			t.Errorf("another driver has moved the process to %s", got)
		}
	}
	// The spawner's end ends all that is beside the daemon, and not that.
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if got := in(); got != was {
		t.Errorf("the process is in %s afterwards, and was in %s", got, was)
	}
	if _, err := os.Stat(server); server != "" && err == nil {
		t.Errorf("%s is left", server)
	}
}

// In the second version the group has the most weight there is, or so many times an
// instance's, and the daemon goes back to its leaf.
func TestTheServersGroupInTheSecondVersion(t *testing.T) {
	top := t.TempDir()
	base := filepath.Join(top, "hearth.service")
	group := filepath.Join(base, "hearth-x", inside.ServerGroup)
	files := map[string]string{
		filepath.Join(base, "cgroup.controllers"):     "cpu memory",
		filepath.Join(base, "cgroup.procs"):           strconv.Itoa(os.Getpid()),
		filepath.Join(base, "hearth", "cgroup.procs"): "",
		filepath.Join(group, "cgroup.procs"):          "",
	}
	for _, dir := range []string{filepath.Join(base, "hearth"), group} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, content := range files {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Where somebody else has let the children have controllers already, the daemon
	// stays where it is; a file is as willing.
	c := &cgroups{v1: map[string]string{}, state: filepath.Join(top, "cgroups")}
	if err := c.useSecond(hierarchy{dir: base, top: top, second: true}, "hearth-x"); err != nil {
		t.Fatal(err)
	}
	if c.server != "" || c.v2 != filepath.Join(base, "hearth-x") {
		t.Fatalf("the server's group is %q, the instances' %q: %v", c.server, c.v2, c.why)
	}
	leaf := filepath.Join(base, "hearth")
	if err := c.makeServerSecond(leaf); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(group, "cpu.weight")); err != nil || string(got) != strconv.Itoa(min(400*runtime.NumCPU(), 10_000)) {
		t.Errorf("it weighs %q, %v", got, err)
	}
	self := strconv.Itoa(os.Getpid())
	for first, want := range map[bool]string{true: group, false: leaf} {
		if err := c.serverFirst(first); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(want, "cgroup.procs")); err != nil || string(got) != self {
			t.Errorf("going first is %v: %q is in %s, %v", first, got, want, err)
		}
	}
}
