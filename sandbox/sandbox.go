// Package sandbox defines what a driver of isolation provides. The drivers are
// its sub-packages: namespace (the kernel's own parts), later gvisor and
// microvm.
//
// A driver knows nothing of functions: it makes instances, and containers in
// them, puts read-only files and processes into containers, limits, freezes
// and ends them. What those processes mean is the worker's business.
package sandbox

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/hearth-faas/hearth"
)

// Paths inside every container.
const (
	TaskDir    = "/var/task" // the code, read-only
	LayerDir   = "/opt"      // the layers, read-only
	RuntimeDir = "/var/runtime"
	// RuntimeAPI is where a container's listener is found from inside.
	RuntimeAPI = "127.0.0.1:9001"
	// ControlFD is the descriptor on which a booted process finds the other
	// end of Container.Control.
	ControlFD = 3
)

// Driver makes instances. Safe for concurrent use.
type Driver interface {
	Name() string // "namespace", "gvisor" or "microvm"
	// NewInstance makes an instance without containers. id is unique among
	// all instances of the data folder, also past ones: lower-case letters,
	// digits and dashes, at most 32.
	NewInstance(ctx context.Context, id string) (Instance, error)
	// Report tells what this machine gives: what is enforced and what not.
	Report() Report
	// Close destroys every instance that is left and ends the driver's own
	// processes.
	Close() error
}

// Instance is the boundary between accounts. Its containers share nothing
// with those of other instances: no user ids, no processes, no network.
// Safe for concurrent use.
type Instance interface {
	ID() string
	// NewContainer makes a container that is ready for Attach and Start. The
	// call returns when the container's namespaces, root, cgroup, network and
	// listener exist and, if spec.Boot is set, its process was started.
	NewContainer(ctx context.Context, spec ContainerSpec) (Container, error)
	// CPU is the processors' time that its containers have used together since
	// it was made, those included that are gone. It is quick. An error that is
	// errors.ErrUnsupported says that this machine does not count it.
	CPU() (time.Duration, error)
	// Yield has all that runs in it, and will, leave the processors to whatever
	// else wants them, or no longer. An error that is errors.ErrUnsupported says
	// that this machine has nothing for it.
	Yield(yes bool) error
	// Destroy ends all containers and removes the instance's traces. It may
	// be called again.
	Destroy() error
}

// ContainerSpec says what a container is before it is known what it will run.
type ContainerSpec struct {
	ID string // as an instance's id; unique within the driver
	// Mounts are directories or files of the host that the runtime needs,
	// beside the driver's own base (the system's programs and libraries).
	Mounts []Mount
	// Boot is a process to start at once; nil for none.
	Boot *Process
	// Output takes what the container's processes write to stdout and
	// stderr. The driver passes it on and does not close it.
	Output *os.File
	Limits Limits
}

// Mount shows a directory or file of the host inside, read-only, without set-
// user-id and devices.
type Mount struct {
	Host  string // absolute
	Guest string // absolute
}

// Process is what to execute, as an unprivileged user, without new
// privileges, under the driver's system call filter.
type Process struct {
	Argv []string // the first without a slash is looked for in Env's PATH
	Env  []string // all of it: nothing is inherited
	Dir  string
}

// Limits bound a container. A zero field is no limit of that sort.
type Limits struct {
	MemoryBytes int64
	// CPUs is how many processors' time per second it may use, such as 0.5.
	CPUs float64
	// NetworkBytes is how many bytes of IP packets a second may go into it, and
	// as many out of it.
	NetworkBytes int64
	Processes    int
	OpenFiles    int // per process; taken into account when a process starts
	// TmpBytes is the size of /tmp. If /tmp is memory, as it is where the
	// driver has no disk for it and where this is 0, it counts as memory, too.
	// It can be changed until Attach or Start.
	TmpBytes int64
}

// ErrWorkingDir says that a process was to start in a directory that is not
// there.
var ErrWorkingDir = errors.New("no such working directory")

// Attachment is the code that a container gets, as directories of the host
// which are shown read-only.
type Attachment struct {
	// Root are the layers of an image, the lowest first, which are merged and
	// become the container's root in place of the driver's base, with what the
	// spec's Mounts show in that. /dev, /proc, /tmp and the files of /etc that
	// tell of the network stay the driver's. Layers are as overlayfs wants
	// them, with userxattr.
	Root   []string
	Task   string   // shown at TaskDir
	Layers []string // merged at LayerDir, later ones over earlier ones
	// Network bounds what the container may reach from now on, beside what the
	// Network itself lets it; nil does not.
	Network *hearth.NetworkPolicy
}

// Container is one execution environment. Exited, Signal, Dial, Kill, Usage and
// Destroy may be called at any time from any goroutine; the others by one at a
// time.
type Container interface {
	ID() string
	// Listener accepts connections made to RuntimeAPI from inside this
	// container, and from nowhere else. Destroy closes it.
	Listener() net.Listener
	// Control is the host's end of a socket pair to the booted process; nil
	// if the container has none.
	Control() *os.File
	// Attach shows the code. At most once, before Start or before the booted
	// process is told to load it.
	Attach(ctx context.Context, a Attachment) error
	// Start runs the container's main process; an error if one was booted or
	// started before.
	Start(ctx context.Context, p Process) error
	// Run starts a further process, before the main one or beside it. Its
	// stdout and stderr go to output, which the driver does not close. A main
	// process that ends takes all others with it, unless a further one is
	// left: then what is left goes on until Kill or Destroy.
	Run(ctx context.Context, p Process, output *os.File) (Companion, error)
	// Signal sends a signal to the main process and its process group; nothing
	// happens if it has ended. It waits while the container is frozen.
	Signal(s syscall.Signal) error
	// Dial connects to a TCP port of the container's loopback interface. A
	// frozen container refuses.
	Dial(ctx context.Context, port int) (net.Conn, error)
	// SetLimits replaces the limits. It takes effect for running processes
	// too, except OpenFiles and, once there is code, TmpBytes.
	SetLimits(l Limits) error
	// Freeze stops every process of the container where it is; Thaw lets
	// them go on. A frozen container can be killed.
	Freeze() error
	Thaw() error
	// Kill ends every process of the container at once.
	Kill() error
	// Exited is closed when the main process has ended; Exit then tells how.
	Exited() <-chan struct{}
	Exit() Exit
	// OOMKills is how often the memory limit has killed a process so far.
	OOMKills() int
	// Usage is what was counted. After Destroy it is the last of that, or an
	// error where only what lives can be looked at.
	Usage() (Usage, error)
	// Traffic is how many bytes of IP packets have gone into the container and
	// out of it. It is quick.
	Traffic() (in, out int64)
	// Link is the container's address in the sandbox network; invalid if it
	// has no network.
	Link() netip.Addr
	// Destroy kills what runs and removes every trace. It may be called
	// again.
	Destroy() error
}

// Companion is a further process of a container. Safe for concurrent use.
type Companion interface {
	// Exited is closed when it has ended, alone or with its container; Exit
	// then tells how.
	Exited() <-chan struct{}
	Exit() Exit
}

// Exit tells how a process ended. Signal is "" or a name such as "killed" or
// "segmentation fault", as syscall.Signal prints it.
type Exit struct {
	Code   int
	Signal string
	At     time.Time
}

// Usage is what a container has used since it was made.
type Usage struct {
	CPU         time.Duration
	MemoryBytes int64 // now
	PeakBytes   int64
	Processes   int
}

// Report tells what a driver can enforce on this machine.
type Report struct {
	Driver string
	Root   bool // runs with the privileges of root
	Checks []Check
}

// Check is one thing that a driver does for isolation, and whether it can
// here.
type Check struct {
	Name   string // such as "memory limit"
	OK     bool
	Detail string // how it is done, or why it can't be
	Fix    string // what to do to have it; "" if OK
}

// Network connects containers with the world outside. A driver gives each
// container's link to it. Safe for concurrent use.
type Network interface {
	// Join serves a container's link: link is a TUN device or packet socket
	// that carries IP packets from and to the container's address. The
	// Network owns the file from then on.
	Join(id string, link *os.File, kind LinkKind) (NetworkLink, error)
	// Guest is the configuration that every container gets: containers
	// cannot reach each other, so that all may have the same address.
	Guest() Guest
}

// LinkKind is how a link's file frames packets.
type LinkKind int

// The kinds of link.
const (
	LinkTUN    LinkKind = iota // a TUN device without packet information
	LinkPacket                 // an AF_PACKET socket with Ethernet frames
)

// Guest is how a container's network interface is set up.
type Guest struct {
	Address netip.Prefix
	Gateway netip.Addr
	DNS     netip.Addr
	API     netip.AddrPort // where Hearth's own API is reached from inside
	MTU     int
}

// NetworkLink is one container's connection.
type NetworkLink interface {
	// Counts are the bytes of IP packets into and out of the container.
	Counts() (in, out int64)
	// Restrict bounds what the container may reach; nil does not. It is called
	// once at most, before there is code in the container. After an error the
	// container reaches nothing.
	Restrict(p *hearth.NetworkPolicy) error
	// SetRate bounds the bytes a second in each direction; 0 is no bound.
	SetRate(bytesPerSecond int64)
	Close() error
}
