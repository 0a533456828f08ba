package namespace

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// template is a formatted disk of one size: the blocks that are not zero. Of
// half a gigabyte these are some twenty, so that to make a disk is to make a
// hole and to write those; formatting each would take 10 ms and a process.
type template struct {
	size   int64 // what code can write
	image  int64
	blocks []block
}

type block struct {
	at      int64
	content []byte
}

const blockSize = 4096

// diskPrefix begins the names of the driver's files in the folder of disks,
// for the moment that they have one.
const diskPrefix = "disk-"

// formatPatience bounds how long mkfs may take.
const formatPatience = 30 * time.Second

// The features are listed in full, so that the machine's mke2fs.conf has no
// say. There is no journal and there are no checksums: the disk is thrown away
// unread if the machine fails. A file system that doesn't grow needs no room
// for that.
const (
	diskFeatures  = "none,dir_index,dir_nlink,extent,extra_isize,filetype,flex_bg,huge_file,large_file,sparse_super,uninit_bg"
	bytesPerInode = "8192"
)

// formatTemplate has a disk formatted on which code can write size bytes.
func formatTemplate(dir string, size int64) (*template, error) {
	// A 32nd are the inodes, and the kernel keeps up to a 50th for itself.
	t := &template{size: size, image: (size + size/16 + 1<<20) &^ (blockSize - 1)}
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		mkfs, err = exec.LookPath("/usr/sbin/mkfs.ext4") // not in every user's path
	}
	if err != nil {
		return nil, &diskError{errors.New("there is no mkfs.ext4"), "install e2fsprogs"}
	}
	f, err := os.CreateTemp(dir, diskPrefix)
	if err != nil {
		return nil, &diskError{err, roomHint(dir)}
	}
	defer func() { _ = errors.Join(f.Close(), os.Remove(f.Name())) }() // Sweep removes it, too
	if err := f.Truncate(t.image); err != nil {
		return nil, &diskError{err, roomHint(dir)}
	}
	ctx, cancel := context.WithTimeout(context.Background(), formatPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, mkfs, "-q", "-F", "-t", "ext4", "-b", fmt.Sprint(blockSize), "-I", "256",
		"-i", bytesPerInode, "-O", diskFeatures, "-m", "0", "-E", "lazy_itable_init=1,nodiscard", f.Name())
	cmd.Env = []string{"PATH=/usr/sbin:/sbin:/usr/bin:/bin", "MKE2FS_CONFIG=/dev/null"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, &diskError{fmt.Errorf("mkfs.ext4: %w: %s", err, bytes.TrimSpace(out)), ext4Hint}
	}
	if t.blocks, err = readBlocks(f); err != nil {
		return nil, &diskError{err, roomHint(dir)}
	}
	if err := t.reserve(dir); err != nil {
		return nil, err
	}
	return t, nil
}

// readBlocks gives the blocks of a sparse file that are not zero.
func readBlocks(f *os.File) (blocks []block, err error) {
	zero := make([]byte, blockSize)
	for at := int64(0); ; {
		start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return blocks, nil // only a hole is left
		}
		if err != nil {
			return nil, err
		}
		if at, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE); err != nil {
			return nil, err
		}
		for ; start < at; start += blockSize {
			content := make([]byte, blockSize)
			if _, err := f.ReadAt(content, start); err != nil && err != io.EOF {
				return nil, err
			}
			if !bytes.Equal(content, zero) {
				blocks = append(blocks, block{start, content})
			}
		}
	}
}

// The superblock's place and fields, from the kernel's documentation of ext4.
const (
	superblockAt     = 1024
	reservedBlocksAt = superblockAt + 0x8 // s_r_blocks_count_lo
	magicAt          = superblockAt + 0x38
	ext4Magic        = 0xef53
)

// reserve sets aside for root, who never comes, what the disk has more than
// size. How much that is, a first disk tells: it depends on mkfs and kernel.
func (t *template) reserve(dir string) error {
	if len(t.blocks) == 0 || t.blocks[0].at != 0 ||
		binary.LittleEndian.Uint16(t.blocks[0].content[magicAt:]) != ext4Magic {
		return &diskError{errors.New("mkfs.ext4 has made something else"), ext4Hint}
	}
	first, err := newDisk(dir, t)
	if err != nil {
		return err
	}
	var st unix.Statfs_t
	err = unix.Fstatfs(rawFD(first.root), &st)
	if err := errors.Join(err, first.release()); err != nil {
		return &diskError{err, ext4Hint}
	}
	more := int64(st.Bavail) - (t.size+blockSize-1)/blockSize
	if more < 0 {
		return &diskError{fmt.Errorf("ext4 leaves %d blocks too few", -more), ext4Hint}
	}
	binary.LittleEndian.PutUint32(t.blocks[0].content[reservedBlocksAt:], uint32(more))
	return nil
}

// copy makes a file of the template, which has no name any more.
func (t *template) copy(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, diskPrefix)
	if err != nil {
		return nil, err
	}
	err = errors.Join(os.Remove(f.Name()), f.Truncate(t.image))
	for _, b := range t.blocks {
		if err == nil {
			_, err = f.WriteAt(b.content, b.at)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
