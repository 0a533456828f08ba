package inside

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// fromBase are the directories that stay when an image becomes the root. The
// image has mount points for them: see Overlay's callers.
var fromBase = []string{"/proc", "/dev", "/tmp"}

// enterImage makes an image, a mount that is nowhere yet, the container's root.
// The base that the container was made with goes, and all mounts in it.
func enterImage(image int) *failure {
	if err := moveMount(image, imagePoint); err != nil {
		return fail("showing the image", err)
	}
	for _, dir := range fromBase {
		if err := mount(dir, imagePoint+dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fail("showing "+dir+" in the image", err)
		}
	}
	return pivot(imagePoint)
}

const imageFlags = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

// Overlay merges directories, the lowest first and two at least, into a mount
// that is nowhere yet: read-only, without set-user-id and devices. stage is a
// directory to mount on where the kernel can't do without; it is not seen. The
// descriptor is given to a function, since it is one of the thread's that calls
// it, which may not share the caller's.
func Overlay(paths []string, stage string, give func(fd int)) error {
	fd, err := overlay(paths)
	if err == syscall.EINVAL || err == syscall.ENOSYS {
		return OverlayByName(paths, stage, give)
	}
	if err == nil {
		give(fd)
	}
	return err
}

// overlay takes one directory at a time, which kernels can since 6.5.
func overlay(paths []string) (int, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer syscall.Close(fs)
	for i := len(paths) - 1; i >= 0; i-- { // the highest first
		if err := unix.FsconfigSetString(fs, "lowerdir+", paths[i]); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigSetFlag(fs, "userxattr"); err != nil {
		return -1, err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, imageFlags)
}

// OverlayByName is Overlay for kernels before 6.5: it has all directories in the one string that mount(2) takes: of a
// page at most, so that descriptors stand for them. It does so on a thread with
// mounts of its own, which ends with it.
func OverlayByName(paths []string, stage string, give func(fd int)) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		fd, err := overlayHere(paths, stage)
		if err == nil {
			give(fd)
		}
		done <- err
	}()
	return <-done
}

func overlayHere(paths []string, stage string) (int, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return -1, err
	}
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, err
	}
	lower := ""
	for i := len(paths) - 1; i >= 0; i-- {
		fd, err := syscall.Open(paths[i], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		defer syscall.Close(fd)
		if lower != "" {
			lower += ":"
		}
		lower += "/proc/self/fd/" + itoa(uint64(fd))
	}
	if err := mount("image", stage, "overlay", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "userxattr,lowerdir="+lower); err != nil {
		return -1, err
	}
	return cloneTree(stage, imageFlags)
}

// executable is the file to execute for the first argument: itself if it has a
// slash, otherwise what the PATH of env has of that name.
func executable(name string, env []string) (string, error) {
	for i := range len(name) {
		if name[i] == '/' {
			return name, nil
		}
	}
	path := ""
	for _, kv := range env {
		if len(kv) > 5 && kv[:5] == "PATH=" {
			path = kv[5:]
		}
	}
	err := syscall.ENOENT
	for begin, i := 0, 0; i <= len(path); i++ {
		if i < len(path) && path[i] != ':' {
			continue
		}
		if dir := path[begin:i]; dir != "" {
			file := dir + "/" + name
			var st syscall.Stat_t
			if syscall.Stat(file, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFREG {
				if st.Mode&0o111 != 0 {
					return file, nil
				}
				err = syscall.EACCES
			}
		}
		begin = i + 1
	}
	return "", err
}
