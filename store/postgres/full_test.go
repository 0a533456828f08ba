package postgres

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hearth-faas/hearth/internal/pgtest"
	"github.com/hearth-faas/hearth/store"
)

// A write that fills the database's disk fails in one sentence, its neighbours
// succeed, and once there is space all works again.
func TestAFullDiskOfTheDatabaseFailsOnlyWhoFillsIt(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("a small disk is mounted for this test, as root")
	}
	server := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	small := filepath.Join(server.Folder, "small")
	info, err := os.Stat(server.Folder)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	mount := func(flags uintptr, size int) error {
		return syscall.Mount("tmpfs", small, "tmpfs", flags, fmt.Sprintf("size=%dm,mode=0700,uid=%d,gid=%d", size, owner.Uid, owner.Gid))
	}
	if err := errors.Join(os.Mkdir(small, 0o700), mount(0, 4)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(small, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	url := server.Database(t)
	admin(t, url, `CREATE TABLESPACE small LOCATION '`+small+`'`)
	s := mustOpen(t, Config{URL: url})
	defer s.Close()
	admin(t, url, `ALTER TABLE hearth_records SET TABLESPACE small`)
	var wg sync.WaitGroup
	var mu sync.Mutex
	full, fine := 0, 0
	for i := range 40 {
		wg.Go(func() {
			size := 10
			if i%4 == 0 {
				size = 6 << 20
			}
			err := put(s, fmt.Sprint(i), noise(size))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && size == 10:
				fine++
			case size > 10 && errors.Is(err, store.ErrFull) && strings.HasSuffix(err.Error(), "free some space there and try again"):
				full++
			default:
				t.Errorf("%d bytes: %v", size, err)
			}
		})
	}
	wg.Wait()
	if full != 10 || fine != 30 {
		t.Errorf("%d full, %d fine", full, fine)
	}
	if err := mount(syscall.MS_REMOUNT, 32); err != nil {
		t.Fatal(err)
	}
	big := noise(6 << 20)
	if err := put(s, "big", big); err != nil || get(t, s, "big") != big {
		t.Errorf("once there is space: %v", err)
	}
}

// noise does not compress.
func noise(n int) string {
	b := make([]byte, n)
	x := uint64(1)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 32)
	}
	return string(b)
}
