package inside

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/sandbox/namespace/message"
)

// What the spawner builds, below its stage (a tmpfs in its own mount
// namespace):
//
//	root/   what containers see as /, read-only: every container gets a copy
//	        of these mounts, not of the files
//	rw/     the file system of root/ again, but writable: for mount points
//	mask/   directories that hide others, writable for mount points too
//	tun     the device, outside of what containers see
//
// As root, the stage then becomes the spawner's own root and every other mount
// of the host is let go: containers are cloned from a process that does not
// have the host's files. As an ordinary user the host's mounts stay with the
// spawner, for it must clone trees of them on behalf of the daemon.

// masked are directories of the base system that belong to the host's people
// rather than to its distribution.
var masked = []string{"/usr/local", "/usr/src", "/usr/games", "/usr/etc"}

// copied are files that programs of the base system read, and that hold
// nothing of the host.
var copied = []string{
	"/etc/ld.so.cache", "/etc/services", "/etc/protocols", "/etc/mime.types",
	"/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf", "/etc/gai.conf",
}

// shown are directories that are shown where they are, if they exist.
var shown = []string{
	"/etc/alternatives", "/etc/ssl/certs", "/etc/pki/ca-trust/extracted", "/etc/pki/tls/certs", "/etc/crypto-policies",
}

// devices are the only ones inside.
var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9},
}

// layerPoints is where layers wait until they are merged: an invocation's
// function has five at most.
const layerPoints = 5

// imagePoint is where an image waits until it is the root.
const imagePoint = "/var/.image"

func layerPoint(i int) string { return "/var/.layers/" + itoa(uint64(i)) }

// buildTemplate leaves the stage at the returned path: t.Stage, or "" if it
// became the root.
func buildTemplate(t *message.Template) (string, *failure) {
	propagation := uintptr(unix.MS_PRIVATE)
	if t.Rootless {
		propagation = unix.MS_SLAVE // the daemon may be shown disks mounted later
	}
	if err := mount("", "/", "", unix.MS_REC|propagation, ""); err != nil {
		return "", fail("cutting mounts off from the host's", err)
	}
	stage := t.Stage
	if err := mount("hearth", stage, "tmpfs", unix.MS_NOSUID, "mode=755,size=16m"); err != nil {
		return "", fail("mounting a tmpfs on "+stage, err)
	}
	for _, dir := range []string{"/root", "/rw", "/mask", "/proc"} {
		if err := syscall.Mkdir(stage+dir, 0o755); err != nil {
			return "", fail("making "+dir, err)
		}
	}
	if err := mount("hearth", stage+"/root", "tmpfs", unix.MS_NOSUID, "mode=755,size=16m"); err != nil {
		return "", fail("mounting the containers' root", err)
	}
	if err := mount(stage+"/root", stage+"/rw", "", unix.MS_BIND, ""); err != nil {
		return "", fail("binding the containers' root", err)
	}
	if f := fillRoot(stage, t.DNS); f != nil {
		return "", f
	}
	if err := makeDevice(stage+"/tun", "/dev/net/tun", 10, 200); err != nil {
		// Without the device a container's link is a veth pair.
		_ = syscall.Unlink(stage + "/tun")
	}
	// Read-only: this mount alone, not rw/, and not the devices' own.
	if err := unix.MountSetattr(unix.AT_FDCWD, stage+"/root", 0, &unix.MountAttr{
		Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID,
	}); err != nil {
		return "", fail("making the containers' root read-only", err)
	}
	if t.Rootless {
		return stage, nil
	}
	// A program that isn't statically linked (one built with the race
	// detector) finds its loader and libraries here.
	for _, dir := range []string{"/usr", "/lib", "/lib64"} {
		if err := syscall.Symlink("root"+dir, stage+dir); err != nil {
			return "", fail("linking "+dir, err)
		}
	}
	return "", enterStage(stage)
}

// enterStage makes the stage the spawner's root. The host's /proc comes along,
// without what is mounted in it: the kernel lets a user namespace mount a
// fresh one only where an unmasked one is in sight.
func enterStage(stage string) *failure {
	proc, err := unix.OpenTree(unix.AT_FDCWD, "/proc", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fail("cloning /proc", err)
	}
	defer syscall.Close(proc)
	if err := moveMount(proc, stage+"/proc"); err != nil {
		return fail("moving /proc", err)
	}
	return pivot(stage)
}

// pivot makes a mount point the root and lets the old root's mounts go.
func pivot(root string) *failure {
	if err := syscall.Chdir(root); err != nil {
		return fail("chdir "+root, err)
	}
	if err := pivotRoot(); err != nil {
		return fail("pivot_root "+root, err)
	}
	// The old root lies upon the new one now.
	if err := unmount("."); err != nil {
		return fail("letting the old root go", err)
	}
	if err := syscall.Chdir("/"); err != nil {
		return fail("chdir /", err)
	}
	return nil
}

func fillRoot(stage, dns string) *failure {
	root := stage + "/root"
	for _, dir := range []string{
		"/usr", "/etc/ssl", "/etc/pki/tls", "/proc", "/dev/shm", "/tmp", "/run",
		"/var/task", "/var/runtime", "/var/.layers", imagePoint, "/opt",
	} {
		if err := mkdirs(root + dir); err != nil {
			return fail("making "+dir, err)
		}
	}
	for i := range layerPoints {
		if err := mkdirs(root + layerPoint(i)); err != nil {
			return fail("making a layer's mount point", err)
		}
	}
	if f := showBase(stage); f != nil {
		return f
	}
	for path, target := range map[string]string{
		"/var/tmp":        "/tmp",
		"/var/run":        "/run",
		"/etc/os-release": "../usr/lib/os-release",
		"/etc/localtime":  "/usr/share/zoneinfo/Etc/UTC",
		"/etc/mtab":       "/proc/self/mounts",
		"/dev/fd":         "/proc/self/fd",
		"/dev/stdin":      "/proc/self/fd/0",
		"/dev/stdout":     "/proc/self/fd/1",
		"/dev/stderr":     "/proc/self/fd/2",
	} {
		if err := syscall.Symlink(target, root+path); err != nil {
			return fail("linking "+path, err)
		}
	}
	resolv := ""
	if dns != "" {
		resolv = "nameserver " + dns + "\noptions timeout:2 attempts:2\n"
	}
	for path, content := range map[string]string{
		"/etc/passwd":        "root:x:0:0:root:/:/sbin/nologin\nsandbox:x:993:990::/tmp:/sbin/nologin\nnobody:x:65534:65534::/:/sbin/nologin\n",
		"/etc/group":         "root:x:0:\nsandbox:x:990:\nnogroup:x:65534:\n",
		"/etc/hosts":         message.Hosts,
		"/etc/hostname":      "sandbox\n",
		"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
		"/etc/resolv.conf":   resolv,
		"/etc/host.conf":     "multi on\n",
	} {
		if err := writeFile(root+path, content); err != nil {
			return fail("writing "+path, err)
		}
	}
	for _, path := range copied {
		content, err := readFile(path)
		if err != nil {
			continue // not on this distribution, and nothing depends on it
		}
		if err := writeFile(root+path, content); err != nil {
			return fail("writing "+path, err)
		}
	}
	for _, d := range devices {
		if err := makeDevice(root+"/dev/"+d.name, "/dev/"+d.name, d.major, d.minor); err != nil {
			return fail("making /dev/"+d.name, err)
		}
	}
	return nil
}

// showBase shows the distribution's programs and libraries.
func showBase(stage string) *failure {
	root := stage + "/root"
	if err := bind("/usr", root+"/usr"); err != nil {
		return fail("showing /usr", err)
	}
	var buf [256]byte
	for _, dir := range []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		if n, err := syscall.Readlink(dir, buf[:]); err == nil {
			if err := syscall.Symlink(string(buf[:n]), root+dir); err != nil {
				return fail("linking "+dir, err)
			}
		} else if isDir(dir) {
			if err := show(dir, root+dir); err != nil {
				return fail("showing "+dir, err)
			}
		}
	}
	for _, dir := range masked {
		if !isDir(dir) {
			continue
		}
		mask := stage + "/mask" + dir
		if err := mkdirs(mask); err != nil {
			return fail("masking "+dir, err)
		}
		if err := bind(mask, root+dir); err != nil {
			return fail("masking "+dir, err)
		}
	}
	for _, dir := range shown {
		if !isDir(dir) {
			continue
		}
		if err := show(dir, root+dir); err != nil {
			return fail("showing "+dir, err)
		}
	}
	return nil
}

func show(source, target string) error {
	if err := mkdirs(target); err != nil {
		return err
	}
	return bind(source, target)
}

// makeDevice makes a device file that everybody may use or, without the right
// to, shows the host's.
func makeDevice(path, host string, major, minor uint32) error {
	err := syscall.Mknod(path, syscall.S_IFCHR|0o666, int(unix.Mkdev(major, minor)))
	if err == nil {
		return syscall.Chmod(path, 0o666) // whatever the umask
	}
	if err := unix.Access(host, unix.R_OK|unix.W_OK); err != nil {
		return err
	}
	if err := writeFile(path, ""); err != nil {
		return err
	}
	tree, err := cloneTree(host, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	defer syscall.Close(tree)
	return moveMount(tree, path)
}

// makePoint makes a mount point for a guest path, in the containers' root or
// in a mask; where the path lies in the base system it must exist there.
func makePoint(stage, guest string, dir bool) error {
	path := stage + "/rw" + guest
	for _, m := range masked {
		if len(guest) > len(m) && guest[:len(m)] == m && guest[len(m)] == '/' {
			path = stage + "/mask" + guest
		}
	}
	if dir {
		return mkdirs(path)
	}
	if exists(stage + "/root" + guest) {
		return nil
	}
	if err := mkdirs(parent(path)); err != nil {
		return err
	}
	return writeFile(path, "")
}
