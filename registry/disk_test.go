package registry_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/store"
)

func TestAPackageStaysWhileSomebodyReadsIt(t *testing.T) {
	g := newGate()
	w := newWorld(t, t.TempDir(), func(c *registry.Config) { c.Prepare = g.prepare })
	defer func() { w.close() }()
	g.leave <- nil
	f := w.create("f")
	<-g.entered
	r, size, err := w.OpenPackage(ctx, f.Package.SHA256)
	w.must(err)
	w.must(w.Delete(ctx, account, "f", ""))
	if n := w.blobs(1); n != 1 {
		t.Errorf("%d packages while one is read", n)
	}
	if _, ok := r.(io.ReaderAt); !ok || size != f.Package.Size {
		t.Errorf("%T of %d", r, size)
	}
	if b, err := io.ReadAll(r); string(b) != string(code("f")) || err != nil {
		t.Errorf("read %d bytes, %v", len(b), err)
	}
	w.must(r.Close())
	if n := w.blobs(0); n != 0 {
		t.Errorf("%d packages after it", n)
	}
	_, _, err = w.OpenPackage(ctx, f.Package.SHA256)
	if hearth.KindOf(err) != hearth.NotFound || !errors.Is(err, store.ErrNoBlob) {
		t.Errorf("gone: %v", err)
	}
	if _, _, err = w.OpenPackage(ctx, "../x"); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("no hash: %v", err)
	}

	// Deleted while it is prepared: the code stays until Prepare returns.
	w.got(w.Create(ctx, registry.Create{Function: function("f"), Zip: code("f")}))
	<-g.entered
	w.must(w.Delete(ctx, account, "f", ""))
	if n := w.blobs(1); n != 1 {
		t.Errorf("%d packages while one is prepared", n)
	}
	g.leave <- nil
	w.close() // waits for the job
	if n := w.blobs(0); n != 0 {
		t.Errorf("%d packages after it", n)
	}
	w.open()
	if _, err := w.Get(ctx, account, "f", ""); hearth.KindOf(err) != hearth.NotFound {
		t.Errorf("it came back: %v", err)
	}
}

func TestCodeThatACrashLeftUnregisteredIsSwept(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	w.create("f")
	orphan := code("orphan")
	w.must(w.cfg.Blobs.Put(ctx, fmt.Sprintf("%x", sha256.Sum256(orphan)), strings.NewReader(string(orphan))))
	w.reopen()
	if n := w.blobs(1); n != 1 {
		t.Errorf("%d packages", n)
	}
}

func TestTheEnvironmentIsNotReadableOnDisk(t *testing.T) {
	w := newWorld(t, t.TempDir(), nil)
	defer func() { w.close() }()
	f := function("f")
	f.Env = map[string]string{"PASSWORD": "correct-horse-battery"}
	w.got(w.Create(ctx, registry.Create{Function: f, Zip: code("f")}))
	w.settled("f")
	w.got(w.Publish(ctx, account, "f", registry.Publish{}))
	w.settled("f")
	w.must(filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), "correct-horse") || strings.Contains(string(b), "PASSWORD") {
			t.Errorf("%s shows it", path)
		}
		return err
	}))
	w.reopen()
	for _, q := range []string{"", "1"} {
		if got := w.got(w.Resolve(ctx, account, "f", q)); got.Env["PASSWORD"] != "correct-horse-battery" {
			t.Errorf("%q: %v", q, got.Env)
		}
	}
}

// failing is a store that cannot write while it is told so.
type failing struct {
	store.Store
	err func() error
}

func (s failing) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.Update(ctx, fn)
}

func TestAFullDiskLosesNothingAndASettledStateIsStoredLater(t *testing.T) {
	g := newGate()
	w := newWorld(t, t.TempDir(), func(c *registry.Config) { c.Prepare = g.prepare })
	defer func() { w.close() }()
	w.close()
	fails := make(chan error, 1) // holds the present error
	fails <- nil
	set := func(err error) { <-fails; fails <- err }
	w.open()
	w.must(w.Close())
	w.cfg.Store = failing{w.cfg.Store, func() error { err := <-fails; fails <- err; return err }}
	var err error
	w.Registry, err = registry.Open(ctx, w.cfg)
	w.must(err)

	full := store.Full("/data", errors.New("ENOSPC"))
	set(full)
	_, err = w.Create(ctx, registry.Create{Function: function("f"), Zip: code("f")})
	wantError(t, err, hearth.Service, "The change could not be stored: the server's disk is full.")
	if n := w.blobs(0); n != 0 {
		t.Errorf("%d packages are kept", n)
	}
	if u, err := w.Usage(ctx, account); u != (registry.Usage{}) || err != nil {
		t.Errorf("usage %+v %v", u, err)
	}
	set(nil)
	w.got(w.Create(ctx, registry.Create{Function: function("f"), Zip: code("f")}))
	<-g.entered
	set(full)
	g.leave <- nil
	for w.clock.Pending() == 0 { // the job has failed to store, and waits
		time.Sleep(time.Millisecond)
	}
	if f := w.got(w.Get(ctx, account, "f", "")); f.State != hearth.Pending {
		t.Errorf("it is %s", describe(f))
	}
	set(nil)
	w.clock.Advance(time.Second)
	if f := w.settled("f"); f.State != hearth.Active {
		t.Errorf("it is %s", describe(f))
	}
}
