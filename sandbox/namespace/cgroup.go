package namespace

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox/namespace/inside"
)

// The controllers that the driver uses.
const (
	memoryController = "memory"
	cpuController    = "cpu"
	pidsController   = "pids"
	freezeController = "freezer"
	cpuUseController = "cpuacct"
)

// cgroups is what this machine offers of cgroups, and the parent that the
// driver made in each hierarchy. There are three sorts of machine: the
// controllers in hierarchies of the first version, often with an empty one of
// the second beside them; all of them in one of the second; and none that the
// user may write to.
type cgroups struct {
	// v1 are the parents by controller. Controllers that are mounted together
	// have the same one.
	v1 map[string]string
	// parents are the distinct directories of v1.
	parents []string
	// v2 is the parent in the unified hierarchy; "" if there is none.
	v2 string
	// unified are the controllers that v2 has.
	unified []string
	home    []*os.File // tasks files of the daemon's own groups, one for each of parents
	server  string     // the group that the daemon is in while it goes first; "" if none
	beside  string     // the one where it is otherwise
	why     []string   // what could not be had, for the report
	state   string     // the file that lists the parents, for Sweep
	planned []string   // what the file lists
}

// can reports whether a controller is there.
func (c *cgroups) can(controller string) bool {
	return c.v1[controller] != "" || slices.Contains(c.unified, controller)
}

// timed reports whether cgroups count the time of processors.
func (c *cgroups) timed() bool { return c.v2 != "" || c.v1[cpuUseController] != "" }

// hierarchy is a mounted hierarchy as /proc tells of it.
type hierarchy struct {
	dir         string   // the daemon's own group in it
	top         string   // where it is mounted
	controllers []string // of the first version; empty for the second
	second      bool
}

// openCgroups makes the parents. A machine without usable cgroups is no error.
func openCgroups(dataDir string) (*cgroups, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("namespace: cgroups: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("namespace: cgroups: %w", err)
	}
	c := &cgroups{v1: map[string]string{}, state: filepath.Join(sandboxDir(dataDir), "cgroups")}
	name := groupName(dataDir)
	found := findHierarchies(string(mounts), string(own))
	for _, h := range found {
		if h.second {
			if err := c.useSecond(h, name); err != nil {
				c.why = append(c.why, err.Error())
			}
		}
	}
	for _, h := range found {
		if h.second || c.v2 != "" && !slices.ContainsFunc(h.controllers, limits) {
			continue // the second version freezes and counts time by itself
		}
		if err := c.useFirst(h, name); err != nil {
			c.why = append(c.why, err.Error())
		}
	}
	return c, nil
}

// groupName is the parents' name: one for each data folder, so that the next
// start finds what this one may leave.
func groupName(dataDir string) string {
	sum := sha256.Sum256([]byte(dataDir))
	return "hearth-" + hex.EncodeToString(sum[:6])
}

// findHierarchies reads /proc/self/mountinfo and /proc/self/cgroup.
func findHierarchies(mounts, own string) []hierarchy {
	paths := map[string]string{} // by controller; "" for the second version
	lines := bufio.NewScanner(strings.NewReader(own))
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		for controller := range strings.SplitSeq(fields[1], ",") {
			paths[controller] = fields[2]
		}
	}
	var found []hierarchy
	seen := map[string]bool{}
	lines = bufio.NewScanner(strings.NewReader(mounts))
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		root, top, kind, options := left[3], left[4], right[0], right[2]
		h := hierarchy{top: top}
		path := ""
		switch kind {
		case "cgroup2":
			h.second = true
			if path, ok = paths[""]; !ok {
				continue
			}
		case "cgroup":
			for option := range strings.SplitSeq(options, ",") {
				if p, ok := paths[option]; ok && usesController(option) {
					h.controllers, path = append(h.controllers, option), p
				}
			}
			if len(h.controllers) == 0 {
				continue
			}
		default:
			continue
		}
		key := kind + strings.Join(h.controllers, ",")
		if seen[key] {
			continue // mounted twice
		}
		seen[key] = true
		// A container's own mount may show the hierarchy from below its root.
		if root != "/" {
			path = strings.TrimPrefix(path, root)
		}
		h.dir = filepath.Join(top, path)
		if isServerGroup(h.dir) { // another driver of this process has put it there
			h.dir = filepath.Dir(filepath.Dir(h.dir))
		}
		found = append(found, h)
	}
	return found
}

func usesController(name string) bool {
	return limits(name) || name == freezeController || name == cpuUseController
}

// limits reports whether a controller is one that limits.
func limits(controller string) bool {
	return controller == memoryController || controller == cpuController || controller == pidsController
}

func (c *cgroups) useFirst(h hierarchy, name string) error {
	dir := filepath.Join(h.dir, name)
	if err := c.makeParent(dir); err != nil {
		return err
	}
	home, err := os.OpenFile(filepath.Join(h.dir, "tasks"), os.O_WRONLY, 0)
	if err != nil {
		return errors.Join(err, os.Remove(dir))
	}
	if slices.Contains(h.controllers, cpuController) {
		if err := weigh(dir, weight()); err != nil {
			return errors.Join(err, home.Close(), os.Remove(dir))
		}
		if err := c.makeServer(dir, h.dir, func(group string) error { return weigh(group, firstWeight*weight()) }); err != nil {
			c.why = append(c.why, err.Error())
		}
	}
	c.home = append(c.home, home)
	c.parents = append(c.parents, dir)
	for _, controller := range h.controllers {
		c.v1[controller] = dir
	}
	return nil
}

// weight is what all containers together weigh when the processors are short,
// where a thread of the server's or of anybody's weighs 1024: twice as much as
// threads on all processors.
func weight() int { return 2 * 1024 * runtime.NumCPU() }

// weigh sets what a group of the first version weighs.
func weigh(dir string, weight int) error {
	return os.WriteFile(filepath.Join(dir, "cpu.shares"), []byte(strconv.Itoa(weight)), 0)
}

// firstWeight is what the daemon weighs while it is to go first, by what all
// containers together do otherwise. All that they are given passes through it and
// takes little of it, so that it is soon done; but one that is kept at work must
// leave them something.
const firstWeight = 2

// In the second version a group weighs 100 by itself, and at most 10,000.
const (
	ordinaryWeight = 100
	mostWeight     = 10_000
)

// serverFirst has the daemon go before the containers, or beside them. In the
// first version their parent weighs more while the daemon is in it, which is to
// take nothing from them; in the second there is nothing beside it.
func (c *cgroups) serverFirst(yes bool) error {
	if c.server == "" {
		return nil
	}
	parent := func(times int) error {
		if dir := c.v1[cpuController]; dir != "" {
			return weigh(dir, times*weight())
		}
		return nil
	}
	if yes {
		return errors.Join(parent(firstWeight+1), moveSelf(c.server))
	}
	return errors.Join(moveSelf(c.beside), parent(1))
}

// isServerGroup reports whether a directory is the group of a driver's daemon
// while that is to go first.
func isServerGroup(dir string) bool {
	return filepath.Base(dir) == inside.ServerGroup && strings.HasPrefix(filepath.Base(filepath.Dir(dir)), "hearth-")
}

// makeServerSecond makes it in the second version.
func (c *cgroups) makeServerSecond(beside string) error {
	return c.makeServer(c.v2, beside, func(group string) error {
		times := firstWeight * weight() / 1024 // of what one instance weighs
		return os.WriteFile(filepath.Join(group, "cpu.weight"), []byte(strconv.Itoa(min(times*ordinaryWeight, mostWeight))), 0o644)
	})
}

// makeServer makes the group that the daemon is in while it is to go first, in the
// containers' parent, so that it is weighed against each instance: whoever wakes
// is let in at once only where what runs is of an instance that yields, and not
// where it is of a group in which one does. beside is where the daemon is
// otherwise: there each of its threads is weighed against all containers, or,
// where the kernel makes a group of each session (sched_autogroup), all of them
// together as one thread.
func (c *cgroups) makeServer(parent, beside string, weigh func(group string) error) error {
	group := filepath.Join(parent, inside.ServerGroup)
	if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := weigh(group); err != nil {
		return errors.Join(err, os.Remove(group))
	}
	c.server, c.beside = group, beside
	return nil
}

// leaveServer has a process that is in the daemon's group be where the daemon is
// otherwise, such as one that was started meanwhile and would stay in it.
func (c *cgroups) leaveServer(pid int) error {
	if c.server == "" {
		return nil
	}
	pids, err := os.ReadFile(filepath.Join(c.server, "cgroup.procs"))
	if err != nil || !slices.Contains(strings.Fields(string(pids)), strconv.Itoa(pid)) {
		return err
	}
	return move(pid, c.beside)
}

// moveSelf moves this process, with all its threads, into a group.
func moveSelf(dir string) error { return move(os.Getpid(), dir) }

func move(pid int, dir string) error {
	err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
	if errors.Is(err, unix.ESRCH) {
		return nil // it has ended
	}
	return err
}

// useSecond makes the parent in the unified hierarchy: in the daemon's own
// group if that was delegated to it (then the daemon itself moves into a leaf,
// for a group with controllers for its children may have no process), else,
// as root, at the top.
func (c *cgroups) useSecond(h hierarchy, name string) error {
	content, err := os.ReadFile(filepath.Join(h.dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	var wanted []string
	for _, controller := range strings.Fields(string(content)) {
		if usesController(controller) {
			wanted = append(wanted, controller)
		}
	}
	base, leaf := h.dir, ""
	if len(wanted) > 0 && base != h.top {
		if leaf, err = makeLeaf(base, wanted); err != nil {
			if os.Geteuid() != 0 {
				c.why = append(c.why, err.Error())
				wanted = nil // freezing and killing need none
			} else {
				base = h.top
			}
		}
	}
	dir := filepath.Join(base, name)
	if err := c.makeParent(dir); err != nil {
		return err
	}
	if len(wanted) > 0 {
		err := enable(base, wanted)
		if err == nil {
			err = enable(dir, wanted)
		}
		if err != nil {
			c.why = append(c.why, err.Error())
			wanted = nil
		}
	}
	c.v2, c.unified = dir, wanted
	if leaf == "" || !slices.Contains(wanted, cpuController) {
		return nil
	}
	if err := c.makeServerSecond(leaf); err != nil {
		c.why = append(c.why, err.Error())
	}
	return nil
}

// makeLeaf moves the processes of a group, if they are only the daemon's own,
// into a child of it, and thereby lets it have controllers for its children. It
// returns the child, or "" if there was no need.
func makeLeaf(dir string, controllers []string) (leaf string, err error) {
	if enable(dir, controllers) == nil {
		return "", nil // somebody has done it
	}
	leaf = filepath.Join(dir, "hearth")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	pids, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return "", err
	}
	self := strconv.Itoa(os.Getpid())
	for _, pid := range strings.Fields(string(pids)) {
		if pid != self {
			return "", errors.Join(fmt.Errorf("%s has other processes than Hearth's: not delegated", dir), os.Remove(leaf))
		}
	}
	if err := moveSelf(leaf); err != nil {
		return "", errors.Join(err, os.Remove(leaf))
	}
	return leaf, enable(dir, controllers)
}

// enable gives a group's children controllers.
func enable(dir string, controllers []string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"),
		[]byte("+"+strings.Join(controllers, " +")), 0)
}

// makeParent writes down the directory, for a later Sweep, and makes it.
func (c *cgroups) makeParent(dir string) error {
	c.planned = append(c.planned, dir)
	if err := os.WriteFile(c.state, []byte(strings.Join(c.planned, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// all are the parents of both versions.
func (c *cgroups) all() []string {
	if c.v2 == "" {
		return c.parents
	}
	return append(slices.Clone(c.parents), c.v2)
}

// close removes the parents.
func (c *cgroups) close() error {
	var errs []error
	for _, f := range c.home {
		errs = append(errs, f.Close())
	}
	c.home = nil
	if c.server != "" {
		errs = append(errs, c.leaveServer(os.Getpid()), removeGroup(c.server))
	}
	for _, dir := range c.all() {
		errs = append(errs, removeGroup(dir))
	}
	if err := errors.Join(errs...); err != nil {
		return err // the state stays for the next start's Sweep
	}
	if err := os.Remove(c.state); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (c *cgroups) makeInstance(id string) error {
	for _, dir := range c.all() {
		if err := os.Mkdir(filepath.Join(dir, id), 0o755); err != nil {
			return fmt.Errorf("namespace: instance %s: %w", id, err)
		}
	}
	if len(c.unified) > 0 {
		if err := enable(filepath.Join(c.v2, id), c.unified); err != nil {
			return fmt.Errorf("namespace: instance %s: %w", id, err)
		}
	}
	return nil
}

func (c *cgroups) removeInstance(id string) error {
	var errs []error
	for _, dir := range c.all() {
		errs = append(errs, removeGroup(filepath.Join(dir, id)))
	}
	return errors.Join(errs...)
}

// removeGroup removes an empty group. The kernel may still be busy with what
// was in it a moment ago, and on a machine that is short of processors so may
// the spawner's thread that was there to clone.
func removeGroup(dir string) error {
	deadline := time.Now().Add(patience)
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("namespace: removing the cgroup %s: %w", dir, err)
		}
		time.Sleep(wait)
	}
}
