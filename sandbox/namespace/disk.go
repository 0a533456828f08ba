package namespace

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// disk is the file system of one container's /tmp: a sparse file of the data
// folder, which has no name any more, behind a loop device, mounted nowhere
// until the container's init puts it in its place. It holds all of that by
// descriptors, so that nothing is left when the daemon ends in any way.
type disk struct {
	size  int64    // bytes that code can write
	image int64    // bytes of the file, if all of them are
	file  *os.File // on the host
	mount *os.File // detached, until init moves it
	root  *os.File // the directory in it

	trimming atomic.Bool
}

// The mount's options. Nothing on the disk outlives its container, so that
// there is no sense in waiting until something has safely reached the host's
// (barrier), nor in writing zeros where the file's holes are zeros already
// (noinit_itable).
var diskOptions = [][2]string{{"noinit_itable", ""}, {"barrier", "0"}, {"errors", "remount-ro"}}

// newDisk makes a disk of a template.
func newDisk(dir string, t *template) (_ *disk, err error) {
	k := &disk{size: t.size, image: t.image}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.release())
		}
	}()
	if k.file, err = t.copy(dir); err != nil {
		return nil, &diskError{fmt.Errorf("making its file: %w", err), roomHint(dir)}
	}
	loop, err := attachLoop(k.file)
	if err != nil {
		return nil, &diskError{fmt.Errorf("a loop device: %w", err), loopHint}
	}
	defer loop.Close() // the mount has it then, and it clears itself with the mount
	if k.mount, err = mountLoop(loop); err != nil {
		return nil, &diskError{fmt.Errorf("mounting ext4: %w", err), ext4Hint}
	}
	root, err := unix.Openat(rawFD(k.mount), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &diskError{fmt.Errorf("opening ext4: %w", err), ext4Hint}
	}
	k.root = os.NewFile(uintptr(root), "tmp")
	err = unix.Unlinkat(root, "lost+found", unix.AT_REMOVEDIR)
	if err == nil {
		err = unix.Fchmod(root, 0o1777)
	}
	if err != nil {
		return nil, &diskError{fmt.Errorf("preparing ext4: %w", err), ext4Hint}
	}
	return k, nil
}

// attachLoop gives a free loop device that shows the file. It reads and writes
// past the host's cache: what code puts into /tmp is in memory once, in its
// own container's cache and under its limit, not a second time in the host's.
func attachLoop(file *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(rawFD(file)), Size: blockSize}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
	for range 100 {
		n, err := unix.IoctlRetInt(rawFD(control), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, os.NewSyscallError("LOOP_CTL_GET_FREE", err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(rawFD(loop), &config)
		if err == nil {
			return loop, nil
		}
		_ = loop.Close() // it isn't ours
		if err != unix.EBUSY {
			return nil, os.NewSyscallError("LOOP_CONFIGURE", err)
		}
		// Somebody was faster.
	}
	return nil, unix.EBUSY
}

// mountLoop mounts the file system of a loop device, detached.
func mountLoop(loop *os.File) (*os.File, error) {
	fs, err := unix.Fsopen("ext4", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "source", loop.Name()); err != nil {
		return nil, err
	}
	for _, option := range diskOptions {
		if option[1] == "" {
			err = unix.FsconfigSetFlag(fs, option[0])
		} else {
			err = unix.FsconfigSetString(fs, option[0], option[1])
		}
		if err != nil {
			return nil, fmt.Errorf("option %s: %w", option[0], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, err
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "mount"), nil
}

// own gives the disk's root to a user and group of the host.
func (k *disk) own(id uint32) error {
	if err := unix.Fchown(rawFD(k.root), int(id), int(id)); err != nil {
		return fmt.Errorf("namespace: giving /tmp away: %w", err)
	}
	return nil
}

// The ioctls of ext4 that x/sys does not name, from linux/fs.h and
// fs/ext4/ext4.h; they have the same numbers on every processor with the
// generic encoding.
const (
	ext4Shutdown    = 0x8004587d // _IOR('X', 125, u32)
	shutdownNoFlush = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH
	trimFreeBlocks  = 0xc0185879 // FITRIM, _IOWR('X', 121, struct fstrim_range)
)

// trimRange is struct fstrim_range.
type trimRange struct{ start, length, least uint64 }

const (
	// leastWaste is what a trim must promise to give back.
	leastWaste = 16 << 20
	// leastToAbandon is what takes longer to write than to forget.
	leastToAbandon = 8 << 20
	// leastTrim is the shortest run of free blocks that is worth a call to the
	// host's file system.
	leastTrim = 1 << 20
)

// allocated is what the disk takes of the host's.
func (k *disk) allocated() int64 {
	var st unix.Stat_t
	if k.file == nil || unix.Fstat(rawFD(k.file), &st) != nil {
		return 0 // it is being made, or given up
	}
	return st.Blocks * 512 // whatever the block size: see stat(2)
}

// wasted tells whether much more is allocated on the host than the files
// inside need, since some were deleted.
func (k *disk) wasted() bool {
	return k.allocated()-k.used() > leastWaste
}

// used is what the files inside take, written to the disk or not yet.
func (k *disk) used() int64 {
	var st unix.Statfs_t
	if k.root == nil || unix.Fstatfs(rawFD(k.root), &st) != nil {
		return 0
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// trim gives the space of deleted files back to the host. The file system
// could do so by itself, at every deletion (discard); that makes deleting a
// file that had reached the disk a call to the host's file system, a
// millisecond each, and 20000 small ones half a minute.
func (k *disk) trim() error {
	raw, err := k.root.SyscallConn()
	if err != nil {
		return nil // it is gone
	}
	var errno unix.Errno
	err = raw.Control(func(fd uintptr) {
		r := trimRange{length: ^uint64(0), least: leastTrim}
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, trimFreeBlocks, uintptr(unsafe.Pointer(&r)))
	})
	if err != nil || errno == 0 || errno == unix.EIO {
		return nil // done, or it is being released
	}
	return os.NewSyscallError("FITRIM", errno)
}

// abandon has the file system forget what it has not yet written, hundreds of
// megabytes maybe that nobody will read; who waits for that to be written is
// released with an error. The kernel makes a line in its log of it, so that it
// is not done for next to nothing.
func (k *disk) abandon() error {
	if k.used() < leastToAbandon {
		return nil
	}
	err := unix.IoctlSetPointerInt(rawFD(k.root), ext4Shutdown, shutdownNoFlush)
	return os.NewSyscallError("EXT4_IOC_SHUTDOWN", err)
}

// release lets go of everything; nobody may use the disk any more. It takes
// some 10 ms, most of it waiting for quiet states of all processors.
func (k *disk) release() error {
	errs := []error{k.abandon()}
	for _, f := range []*os.File{k.mount, k.root, k.file} {
		if f == nil {
			continue
		}
		if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
