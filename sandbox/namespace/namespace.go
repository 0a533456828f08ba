// Package namespace is the driver that makes containers from the kernel's own
// parts: namespaces, cgroups, mounts, a system call filter.
//
// An instance is a range of the host's user ids and a subtree of cgroups; it
// has no process of its own. Each container in it has new user, mount, pid,
// network, ipc, uts and cgroup namespaces, so that containers of one account
// are as far apart as those of two, but for the ids and the group they share.
//
// Three programs work together. The daemon (this package) decides; the spawner,
// a small process, clones; the init of each container builds it from within
// and starts what runs there. The latter two are package inside. They end with
// the daemon, however that ends.
//
// As root, a container's /tmp is a disk of its own: a sparse file of the data
// folder (sandbox/tmp, where another disk may be mounted) with an ext4 file
// system, behind a loop device, which is put over a small tmpfs when the code
// is attached. Disks of the usual size are kept ready. Where there can be none,
// the tmpfs stays, and what code writes to it counts as its memory. The kernel
// keeps the loop devices for the next time, unattached, at some 300 KiB each.
//
// Locks: Driver.mu, then instance.mu, then container.mu, then disks.mu; none is
// held while something slow is done.
package namespace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/namespace/inside"
)

// Config says how a driver is to be.
type Config struct {
	// Program is the hearth-sandbox executable: see Unpack. A program that
	// calls Main first thing can serve as well ("/proc/self/exe"), at the
	// price of its own size in every container.
	Program string
	// DataDir is the data folder; the driver keeps a few files in its folder
	// sandbox. It names the driver's cgroups, too.
	DataDir string
	// Network connects containers with the outside; nil for loopback only.
	Network sandbox.Network
	// UIDBase is the first host user id that instances get (as root);
	// DefaultUIDBase if 0.
	UIDBase uint32
	// Log takes what the driver has to say beside errors; nil for nothing.
	Log *slog.Logger
}

// DefaultUIDBase is the first id of a part of the id space that systemd's
// registry leaves unused; it ends at 0x7ffe0000.
const (
	DefaultUIDBase = 0x7000_0000
	uidEnd         = 0x7ffe_0000
	uidRange       = 1024 // ids per instance: inside there are root and one user
)

// Driver implements sandbox.Driver.
type Driver struct {
	cfg    Config
	log    *slog.Logger
	root   bool
	groups *cgroups
	spawn  *spawner
	disks  *disks

	stopWatch func()         // nil if cgroups limit memory
	closing   sync.WaitGroup // of links and disks of destroyed containers

	mu        sync.Mutex
	instances map[string]*instance
	freeUIDs  []uint32 // given back, used again in order, as late as possible
	nextUID   uint32
	closed    bool
}

var _ sandbox.Driver = (*Driver)(nil)

// Main runs the spawner or an init if the calling program was started as one,
// and does not return then. A program that gives itself as Config.Program
// must call it before anything else.
func Main() {
	if len(os.Args) > 0 && inside.Is(os.Args[0]) {
		inside.Main(os.Args[0])
	}
}

// New makes a driver and starts its spawner. What a driver of the same data
// folder left behind is removed first; the caller makes sure that it doesn't
// run any more.
func New(ctx context.Context, cfg Config) (*Driver, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.UIDBase == 0 {
		cfg.UIDBase = DefaultUIDBase
	}
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("namespace: data folder: %w", err)
	}
	cfg.DataDir = dir
	if err := os.MkdirAll(stageDir(dir), 0o755); err != nil {
		return nil, fmt.Errorf("namespace: data folder: %w", err)
	}
	if err := Sweep(dir); err != nil {
		return nil, err
	}
	d := &Driver{
		cfg: cfg, log: cfg.Log, root: os.Geteuid() == 0,
		instances: map[string]*instance{}, nextUID: cfg.UIDBase,
	}
	if d.groups, err = openCgroups(dir); err != nil {
		return nil, err
	}
	if d.disks, err = newDisks(dir, d.root, cfg.Log); err != nil {
		return nil, errors.Join(err, d.groups.close())
	}
	if err := makeSkeleton(dir, cfg.Network); err != nil {
		return nil, errors.Join(err, d.groups.close())
	}
	d.spawn = &spawner{cfg: cfg, root: d.root, groups: d.groups}
	if err := d.spawn.start(ctx); err != nil {
		return nil, errors.Join(err, d.groups.close())
	}
	if !d.groups.can(memoryController) {
		watching, stop := context.WithCancel(context.Background())
		d.stopWatch = stop
		go d.watchMemory(watching)
	}
	return d, nil
}

// GoFirst has this process go before all that its containers run where processors
// are short, or beside it as anybody would, which is how it begins. Going first
// keeps it from making others wait for what one of them has it do; but it is let in
// for each event then, and not once for many, so that less is done in all. It does
// nothing where there is no control group for it. Safe for concurrent use.
func (d *Driver) GoFirst(yes bool) error { return d.groups.serverFirst(yes) }

func sandboxDir(dataDir string) string { return filepath.Join(dataDir, "sandbox") }
func stageDir(dataDir string) string   { return filepath.Join(sandboxDir(dataDir), "stage") }

// Name implements sandbox.Driver.
func (d *Driver) Name() string { return "namespace" }

// NewInstance implements sandbox.Driver.
func (d *Driver) NewInstance(ctx context.Context, id string) (sandbox.Instance, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, errClosed
	}
	if d.instances[id] != nil {
		d.mu.Unlock()
		return nil, fmt.Errorf("namespace: instance %s exists", id)
	}
	uid, err := d.takeUID()
	if err != nil {
		d.mu.Unlock()
		return nil, err
	}
	in := &instance{d: d, id: id, uid: uid, containers: map[string]*container{}}
	d.instances[id] = in
	d.mu.Unlock()
	if err := d.groups.makeInstance(id); err != nil {
		return nil, errors.Join(err, in.Destroy())
	}
	return in, nil
}

// takeUID gives the first id of a range; d.mu is held. Ids are used again only
// when they must be, the longest unused first.
func (d *Driver) takeUID() (uint32, error) {
	if !d.root {
		return 0, nil // there is but one
	}
	if d.nextUID <= uidEnd-uidRange {
		uid := d.nextUID
		d.nextUID += uidRange
		return uid, nil
	}
	if len(d.freeUIDs) == 0 {
		return 0, errors.New("namespace: no user ids left for another instance")
	}
	uid := d.freeUIDs[0]
	d.freeUIDs = d.freeUIDs[1:]
	return uid, nil
}

// forget takes an instance that is gone off the list.
func (d *Driver) forget(in *instance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.instances[in.id] != in {
		return
	}
	delete(d.instances, in.id)
	if d.root {
		d.freeUIDs = append(d.freeUIDs, in.uid)
	}
}

// Close implements sandbox.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	var left []*instance
	for _, in := range d.instances {
		left = append(left, in)
	}
	d.mu.Unlock()
	errs := make([]error, len(left))
	var all sync.WaitGroup
	for i, in := range left {
		all.Go(func() { errs[i] = in.Destroy() })
	}
	all.Wait()
	d.closing.Wait()
	d.disks.close()
	if d.stopWatch != nil {
		d.stopWatch()
	}
	errs = append(errs, d.spawn.stop(), d.groups.close())
	return errors.Join(errs...)
}

var errClosed = errors.New("namespace: the driver is closed")

// checkID keeps ids safe as names of files.
func checkID(id string) error {
	if id == "" || len(id) > 32 {
		return fmt.Errorf("namespace: id %q is not 1 to 32 characters long", id)
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("namespace: id %q has other characters than a-z, 0-9 and -", id)
		}
	}
	return nil
}
