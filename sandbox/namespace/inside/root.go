package inside

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox/namespace/message"
)

const tmpFlags = unix.MS_NOSUID | unix.MS_NODEV

// tmpSize are the options of /tmp. 0 bytes is as much as the memory limit has
// room for; a number has to be given all the same, since the kernel refuses to
// limit later what was made without limit.
func tmpSize(bytes uint64) string {
	if bytes == 0 {
		bytes = 1 << 40
	}
	return "mode=1777,size=" + itoa(bytes)
}

// hidden are files of /proc that everybody may read or that tell of the whole
// machine, beyond what programs use (cpuinfo, meminfo, stat, version).
var hidden = []string{
	"cmdline", "kcore", "keys", "key-users", "kmsg", "kallsyms", "modules", "sysrq-trigger", "timer_list", "sched_debug",
	"latency_stats", "vmallocinfo", "slabinfo", "interrupts", "softirqs", "iomem", "ioports", "config.gz",
	"kpagecount", "kpageflags", "kpagecgroup", "pagetypeinfo", "buddyinfo", "zoneinfo", "diskstats", "partitions",
	"swaps", "crypto", "consoles", "locks", "mtrr",
}

// emptied are directories of /proc that nobody needs to look into, frozen
// those that may be read but not written.
var (
	emptied = []string{"acpi", "scsi", "bus", "fs", "irq", "driver", "asound", "dynamic_debug", "pressure", "tty"}
	frozen  = []string{"sys"}
)

// buildRoot assembles the container's root at the template's place, in this
// mount namespace's own copy of it.
func buildRoot(m *message.Setup, trees []int) *failure {
	root := m.Stage + "/root"
	// What came with the namespace is locked where it is; a clone of it isn't.
	tree, err := unix.OpenTree(unix.AT_FDCWD, root, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fail("cloning the root", err)
	}
	defer syscall.Close(tree)
	if err := moveMount(tree, root); err != nil {
		return fail("placing the root", err)
	}
	for i, guest := range m.Guests {
		if err := moveMount(trees[i], root+guest); err != nil {
			return fail("showing "+guest, err)
		}
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	// Init is invisible to the code: it may not be traced.
	if err := mount("proc", root+"/proc", "proc", flags, "hidepid=2"); err != nil {
		return fail("mounting /proc", err)
	}
	if err := mount("tmp", root+"/tmp", "tmpfs", tmpFlags, tmpSize(m.TmpBytes)); err != nil {
		return fail("mounting /tmp", err)
	}
	if err := mount("shm", root+"/dev/shm", "tmpfs", flags, "mode=1777,size=64m"); err != nil {
		return fail("mounting /dev/shm", err)
	}
	return nil
}

// enterRoot masks /proc, which setting up the network had to write to, and
// makes the container's root the only one.
func enterRoot(m *message.Setup) *failure {
	proc := m.Stage + "/root/proc/"
	for _, name := range hidden {
		if err := mount(m.Stage+"/root/dev/null", proc+name, "", unix.MS_BIND, ""); err != nil && err != syscall.ENOENT {
			return fail("hiding /proc/"+name, err)
		}
	}
	for _, name := range emptied {
		if !isDir(proc + name) {
			continue
		}
		if err := bind(m.Stage+"/root/run", proc+name); err != nil {
			return fail("hiding /proc/"+name, err)
		}
	}
	for _, name := range frozen {
		if err := bind(proc+name, proc+name); err != nil {
			return fail("making /proc/"+name+" read-only", err)
		}
	}
	return pivot(m.Stage + "/root")
}

// attach shows the code and the layers, puts a disk over the tmpfs of /tmp, and
// makes an image the root. One layer is shown as it is; several are merged,
// later ones over earlier ones, read-only by having nothing to write to.
func attach(m *message.Attach, trees []int) *failure {
	want := int(m.Layers)
	for _, one := range []bool{m.Root, m.Task, m.Tmp} {
		if one {
			want++
		}
	}
	if len(trees) != want || m.Layers > layerPoints {
		return fail("counting descriptors", syscall.EBADF)
	}
	if m.Root {
		last := len(trees) - 1
		image := trees[last]
		trees = trees[:last]
		m := *m
		m.Root = false
		if f := attach(&m, trees); f != nil {
			return f
		}
		return enterImage(image)
	}
	if m.Task {
		if err := moveMount(trees[0], "/var/task"); err != nil {
			return fail("showing /var/task", err)
		}
		trees = trees[1:]
	}
	if m.Tmp {
		if err := moveMount(trees[0], "/tmp"); err != nil {
			return fail("putting a disk at /tmp", err)
		}
		trees = trees[1:]
	}
	if len(trees) == 1 {
		if err := moveMount(trees[0], "/opt"); err != nil {
			return fail("showing /opt", err)
		}
	}
	if len(trees) < 2 {
		return nil
	}
	lower := ""
	for i, tree := range trees {
		if err := moveMount(tree, layerPoint(i)); err != nil {
			return fail("showing a layer", err)
		}
		if lower != "" {
			lower = ":" + lower
		}
		lower = layerPoint(i) + lower
	}
	err := mount("layers", "/opt", "overlay", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "lowerdir="+lower)
	if err != nil {
		return fail("merging layers", err)
	}
	for i := range trees {
		if err := unmount(layerPoint(i)); err != nil {
			return fail("putting a layer away", err)
		}
	}
	return nil
}
