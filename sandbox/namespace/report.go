package namespace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hearth-faas/hearth/sandbox"
)

// reportPatience bounds the making of the container that a report is about.
const reportPatience = 10 * time.Second

// asRoot is the way out of most that an ordinary user lacks.
const asRoot = "run Hearth as root"

// Report implements sandbox.Driver. It makes a container and looks at it, so
// that what it tells is what this machine does, not what it ought to do.
func (d *Driver) Report() sandbox.Report {
	r := sandbox.Report{Driver: d.Name(), Root: d.root}
	add := func(name string, ok bool, detail, fix string) {
		if ok {
			fix = ""
		}
		r.Checks = append(r.Checks, sandbox.Check{Name: name, OK: ok, Detail: detail, Fix: fix})
	}
	r.Checks = append(r.Checks, d.tryContainer()...)
	if d.root {
		add("user ids", true, fmt.Sprintf("each instance has %d ids of the host of its own, from %d", uidRange, d.cfg.UIDBase), "")
	} else {
		add("user ids", false, fmt.Sprintf("on the host all code has your own id, %d; only its namespaces keep it apart", os.Geteuid()), asRoot)
	}
	where := "in cgroups of the second version"
	if len(d.groups.v1) > 0 {
		where = "in cgroups of the first version"
	}
	delegate := asRoot + ", or as a systemd service with Delegate=yes"
	if d.groups.can(memoryController) {
		add("memory limit", true, where, "")
	} else {
		add("memory limit", false, fmt.Sprintf("processes are looked at every %v and ended when they are over it; /tmp does not count", watchInterval), delegate)
	}
	if d.groups.can(cpuController) {
		add("CPU limit", true, where, "")
	} else {
		add("CPU limit", false, "none: a container may use all processors", delegate)
	}
	if d.groups.can(pidsController) {
		add("process limit", true, where, "")
	} else {
		add("process limit", true, "per container, by RLIMIT_NPROC; it is set when a process starts", "")
	}
	switch {
	case d.groups.v2 != "":
		add("freezing", true, "by cgroup.freeze", "")
	case d.groups.v1[freezeController] != "":
		add("freezing", true, "by the freezer of the first version", "")
	default:
		add("freezing", false, "by SIGSTOP, which code can notice", delegate)
	}
	if len(d.groups.why) > 0 {
		add("cgroups", false, strings.Join(d.groups.why, "; "), delegate)
	}
	return r
}

// tryContainer reports what the making of a container shows.
func (d *Driver) tryContainer() (checks []sandbox.Check) {
	ctx, cancel := context.WithTimeout(context.Background(), reportPatience)
	defer cancel()
	failed := func(err error) []sandbox.Check {
		return append(checks, sandbox.Check{Name: "containers", Detail: err.Error(), Fix: namespaceHint})
	}
	id := fmt.Sprintf("report-%x", time.Now().UnixNano())
	start := time.Now()
	in, err := d.NewInstance(ctx, id)
	if err != nil {
		return failed(err)
	}
	defer func() {
		if err := in.Destroy(); err != nil {
			checks = failed(err)
		}
	}()
	made, err := in.NewContainer(ctx, sandbox.ContainerSpec{ID: id, Limits: sandbox.Limits{TmpBytes: usualTmp}})
	if err != nil {
		return failed(err)
	}
	c := made.(*container)
	checks = append(checks, sandbox.Check{Name: "containers", OK: true, Detail: fmt.Sprintf(
		"own user, mount, pid, network, ipc, uts and cgroup namespaces; made in %.1f ms", time.Since(start).Seconds()*1000)})

	filter := sandbox.Check{Name: "system call filter", Detail: "no_new_privs and a seccomp filter on every process"}
	if filter.OK, err = filtered(c.initPID); err != nil {
		filter.Detail = err.Error()
	} else if !filter.OK {
		filter.Detail, filter.Fix = "the kernel does not show one", "use a kernel with CONFIG_SECCOMP_FILTER"
	}
	checks = append(checks, filter)

	layers := sandbox.Check{Name: "layers", OK: true, Detail: "several are merged by overlayfs"}
	if err := d.tryLayers(ctx, c); err != nil {
		layers.OK, layers.Detail, layers.Fix = false, "only one can be shown: "+err.Error(), "use Linux 5.11 or later with overlayfs"
	}
	checks = append(checks, layers, d.diskCheck(c), turnsCheck(in))

	network := sandbox.Check{Name: "network", OK: true}
	switch {
	case d.cfg.Network == nil:
		network.Detail = "none was configured: loopback only"
	case c.packetLink:
		network.Detail = "by a veth pair and a packet socket, since /dev/net/tun can't be opened"
	default:
		network.Detail = "by a TUN device"
	}
	return append(checks, network)
}

// turnsCheck tells whether accounts that use more than their share of the
// processors can be made to leave them to the others at once.
func turnsCheck(in sandbox.Instance) sandbox.Check {
	check := sandbox.Check{Name: "processors' turns", Detail: "code of accounts beyond their share of the processors runs on what the others leave, by cpu.idle"}
	_, err := in.CPU()
	if err = errors.Join(err, in.Yield(true)); err == nil {
		err = in.Yield(false)
	}
	if check.OK = err == nil; !check.OK {
		check.Detail, check.Fix = "code of all accounts runs by turns of the kernel's: "+err.Error(), "use Linux 5.15 or later with cgroups' cpu controller"
	}
	return check
}

// diskCheck tells what a container's /tmp is.
func (d *Driver) diskCheck(c *container) sandbox.Check {
	check := sandbox.Check{Name: "/tmp on disk"}
	c.mu.Lock()
	check.OK = c.disk != nil
	c.mu.Unlock()
	if check.OK {
		check.Detail = "a file system of each container's own, in " + d.disks.dir
		return check
	}
	check.Detail, check.Fix = "memory, which counts as the function's", "see the server's log"
	err := d.disks.lack()
	if err != nil {
		check.Detail += ": " + err.Error()
	}
	if known, ok := errors.AsType[*diskError](err); ok {
		check.Fix = known.fix
	}
	return check
}

// filtered reports whether a process can gain no rights and is filtered.
func filtered(pid int) (bool, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false, err
	}
	return strings.Contains(string(status), "\nNoNewPrivs:\t1\n") && strings.Contains(string(status), "\nSeccomp:\t2\n"), nil
}

// tryLayers merges two empty layers.
func (d *Driver) tryLayers(ctx context.Context, c *container) (err error) {
	var layers []string
	defer func() {
		for _, dir := range layers {
			if e := os.Remove(dir); e != nil && !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
	}()
	for _, name := range []string{"one", "two"} {
		dir := filepath.Join(sandboxDir(d.cfg.DataDir), c.id+"-"+name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		layers = append(layers, dir)
	}
	return c.Attach(ctx, sandbox.Attachment{Layers: layers})
}

// namespaceHint is what usually keeps an ordinary user from namespaces.
const namespaceHint = "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, " +
	"kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces above 0), or " + asRoot
