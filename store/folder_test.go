package store_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/files"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const (
	holdDir = "HEARTH_TEST_HOLD_DIR"
	fillDir = "HEARTH_TEST_FILL_DIR"
)

// TestMain is also the other process of some tests.
func TestMain(m *testing.M) {
	var err error
	switch {
	case os.Getenv(holdDir) != "":
		if _, err = store.OpenFolder(os.Getenv(holdDir)); err == nil {
			fmt.Println("held")
			_, err = io.Copy(io.Discard, os.Stdin) // until the test is done
		}
	case os.Getenv(fillDir) != "":
		err = fill(os.Getenv(fillDir))
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestASecondServerOnAFolderIsToldWhoHasIt(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{holdDir + "=" + dir}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	_, err = store.OpenFolder(dir)
	inUse, ok := errors.AsType[*store.InUseError](err)
	if !ok || inUse.PID != cmd.Process.Pid || !strings.Contains(err.Error(), fmt.Sprintf("(process %d)", cmd.Process.Pid)) {
		t.Errorf("the error is %v", err)
	}
	// However the other one ends, the folder is free then.
	if err := errors.Join(cmd.Process.Kill(), in.Close()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	f, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenFolder(dir); err == nil {
		t.Error("one process got the folder twice")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	f, err = store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestAFolderThatIsAFileIsRefusedInOneSentence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenFolder(file); err == nil || !strings.Contains(err.Error(), "is not a folder") {
		t.Errorf("the error is %v", err)
	}
	if _, err := store.OpenFolder(filepath.Join(file, "below")); err == nil || !strings.Contains(err.Error(), "is not a folder") {
		t.Errorf("the error is %v", err)
	}
}

// The child has user and mount namespaces of its own, so that it can mount a
// small disk wherever the tests run.
func TestAFullOrReadOnlyDiskIsSaidInOneSentence(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{fillDir + "=" + t.TempDir()}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Credential:  &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func fill(dir string) error {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		return fmt.Errorf("mount a small disk: %w", err)
	}
	ctx := context.Background()
	folder, err := store.OpenFolder(dir)
	if err != nil {
		return err
	}
	records, err := sqlite.Open(ctx, dir)
	if err != nil {
		return err
	}
	blobs, err := files.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		return err
	}
	kept := 0
	for ; err == nil; kept++ {
		err = records.Update(ctx, func(tx store.Tx) error { return tx.Put("b", fmt.Sprint(kept), make([]byte, 50_000)) })
	}
	kept--
	if !errors.Is(err, store.ErrFull) || err.Error() != "the disk that holds "+dir+" is full: free some space and try again" {
		return fmt.Errorf("records: %w", err)
	}
	big := strings.Repeat("x", 1<<20)
	sum := sha256.Sum256([]byte(big))
	if err := blobs.Put(ctx, hex.EncodeToString(sum[:]), strings.NewReader(big)); !errors.Is(err, store.ErrFull) {
		return fmt.Errorf("blobs: %w", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "blobs", "incoming")); len(left) != 0 || err != nil {
		return fmt.Errorf("a refused blob left %v (%w)", left, err)
	}
	if err := records.View(ctx, func(r store.Reader) error {
		n := 0
		for _, err := range r.Scan("b", "", "") {
			if err != nil {
				return err
			}
			n++
		}
		if n != kept || n == 0 {
			return fmt.Errorf("%d of %d acknowledged records are there", n, kept)
		}
		return nil
	}); err != nil {
		return err
	}
	if err := errors.Join(records.Close(), folder.Close()); err != nil {
		return fmt.Errorf("close on a full disk: %w", err)
	}

	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("remount: %w", err)
	}
	if _, err := store.OpenFolder(dir); !errors.Is(err, store.ErrReadOnly) || !strings.Contains(err.Error(), "cannot be written") {
		return fmt.Errorf("read-only folder: %w", err)
	}
	if _, err := sqlite.Open(ctx, dir); !errors.Is(err, store.ErrReadOnly) {
		return fmt.Errorf("read-only database: %w", err)
	}
	if _, err := files.Open(filepath.Join(dir, "blobs")); !errors.Is(err, store.ErrReadOnly) {
		return fmt.Errorf("read-only blobs: %w", err)
	}
	return nil
}
