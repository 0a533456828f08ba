package inside

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cookie goes into the sixth argument of the system calls that change mounts.
// None of them has a sixth argument, and the system call filter lets them
// pass only with this number there: see filter.go. 0 until the filter is set.
var cookie uintptr

// call6 is Syscall6 with a Go error. The directive keeps what its arguments
// point to alive and in place, as for package syscall's own.
//
//go:uintptrescapes
func call6(trap, a, b, c, d, e, f uintptr) (uintptr, error) {
	r, _, errno := syscall.Syscall6(trap, a, b, c, d, e, f)
	if errno != 0 {
		return 0, errno
	}
	return r, nil
}

func bytePtr(s string) *byte {
	p, err := syscall.BytePtrFromString(s)
	if err != nil {
		var empty byte
		return &empty
	}
	return p
}

const atFDCWD = ^uintptr(99) // -100

func mount(source, target, kind string, flags uintptr, data string) error {
	_, err := call6(unix.SYS_MOUNT, uintptr(unsafe.Pointer(bytePtr(source))),
		uintptr(unsafe.Pointer(bytePtr(target))), uintptr(unsafe.Pointer(bytePtr(kind))),
		flags, uintptr(unsafe.Pointer(bytePtr(data))), cookie)
	return err
}

func unmount(target string) error {
	_, err := call6(unix.SYS_UMOUNT2, uintptr(unsafe.Pointer(bytePtr(target))),
		unix.MNT_DETACH, 0, 0, 0, cookie)
	return err
}

// pivotRoot makes the current directory the root, with the old one upon it.
func pivotRoot() error {
	dot := uintptr(unsafe.Pointer(bytePtr(".")))
	_, err := call6(unix.SYS_PIVOT_ROOT, dot, dot, 0, 0, 0, cookie)
	return err
}

// moveMount puts a detached tree at a path.
func moveMount(tree int, target string) error {
	_, err := call6(unix.SYS_MOVE_MOUNT, uintptr(tree), uintptr(unsafe.Pointer(bytePtr(""))),
		atFDCWD, uintptr(unsafe.Pointer(bytePtr(target))),
		unix.MOVE_MOUNT_F_EMPTY_PATH, cookie)
	return err
}

// Tree makes a detached clone of the mounts at path and below it: read-only,
// without set-user-id and devices, and cut off from what happens to the
// original's mounts.
func Tree(path string) (int, error) {
	return cloneTree(path, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
}

func cloneTree(path string, attributes uint64) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path,
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, err
	}
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{
		Attr_set:    attributes,
		Propagation: unix.MS_PRIVATE,
	})
	if err != nil {
		_ = syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// bind shows source at target, read-only.
func bind(source, target string) error {
	fd, err := Tree(source)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return moveMount(fd, target)
}

// mkdirs makes a directory and those above it, all of them readable by
// everybody whatever the umask.
func mkdirs(path string) error {
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		err := syscall.Mkdir(path[:i], 0o755)
		if err != nil && err != syscall.EEXIST {
			// An existing directory of a file system that can't be written.
			var st syscall.Stat_t
			if syscall.Stat(path[:i], &st) != nil {
				return err
			}
		}
	}
	return nil
}

func writeFile(path, content string) error {
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	for len(content) > 0 {
		n, err := syscall.Write(fd, []byte(content))
		if err != nil {
			return err
		}
		content = content[n:]
	}
	return nil
}

func readFile(path string) (string, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	return readAll(fd)
}

func readAll(fd int) (string, error) {
	var content []byte
	var buf [4096]byte
	for {
		n, err := syscall.Read(fd, buf[:])
		if err != nil {
			return "", err
		}
		if n == 0 {
			return string(content), nil
		}
		content = append(content, buf[:n]...)
	}
}

func isDir(path string) bool {
	var st syscall.Stat_t
	return syscall.Stat(path, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFDIR
}

func exists(path string) bool {
	var st syscall.Stat_t
	return syscall.Stat(path, &st) == nil
}

func parent(path string) string {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return "/"
}

func itoa(n uint64) string {
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		n /= 10
		if n == 0 {
			return string(b[i:])
		}
	}
}
