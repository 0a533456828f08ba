package identity

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

// elsewhere keeps the data keys as a database does.
type elsewhere struct {
	data []byte
	err  error // of the next Save
}

func (e *elsewhere) Load(context.Context) ([]byte, error) { return e.data, nil }

func (e *elsewhere) Save(_ context.Context, data []byte) error {
	err := e.err
	if e.err = nil; err == nil {
		e.data = bytes.Clone(data)
	}
	return err
}

// reseal seals anew what s has.
func (s *sealed) reseal(t *testing.T, a *Authority) {
	t.Helper()
	for i, b := range s.texts {
		again, err := a.Key().Again(b, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if again != nil {
			s.texts[i] = again
		}
	}
	err := a.Keys().Reseal(t.Context(), a.Keys().Sealing().Again, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// A rotation while the keys are at work: what was sealed opens, what is sealed
// anew needs the old data key no more, and without that key the rest is closed.
func TestKeysAreRotatedWhileTheyAreUsed(t *testing.T) {
	for _, at := range []Records{nil, new(elsewhere)} {
		dir, now := t.TempDir(), newClock()
		a := mustLoad(t, Config{Dir: dir, Clock: now, Log: quiet()})
		join := func() error {
			err := a.Join(t.Context(), at)
			if at != nil {
				err = errors.Join(err, a.Publish(t.Context(), at))
			}
			return err
		}
		if err := join(); err != nil {
			t.Fatal(err)
		}
		var all sealed
		all.add(t, a, "one")
		left := bytes.Clone(all.texts[0])
		session, err := a.Mint(Grant{Account: a.Root().Account}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Rotate(t.Context(), "", 20*time.Minute); err != nil {
			t.Fatal(err)
		}
		all.add(t, a, "two")
		if Generation(all.texts[1]) != 2 || a.Current() != 2 {
			t.Errorf("sealed by %d, current is %d", Generation(all.texts[1]), a.Current())
		}
		if err := all.check(a); err != nil {
			t.Fatal(err)
		}
		holds := func() error {
			_, _, err := a.Lookup(session.AccessKeyID, session.SessionToken.Reveal())
			return err
		}
		if err := holds(); err != nil {
			t.Errorf("a session of before: %v", err)
		}
		if of, ok := a.AccountOf(session.AccessKeyID); !ok || of != a.Root().Account {
			t.Errorf("the session's key is of %q", of)
		}
		all.reseal(t, a)
		if removed, err := a.Forget(t.Context(), 2); err != nil || !removed {
			t.Fatal(removed, err)
		}
		if removed, err := a.Forget(t.Context(), 2); err != nil || removed {
			t.Fatal("removed again", err)
		}
		if err := all.check(a); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Key().Open(left, []byte("x")); !errors.Is(err, ErrSealed) {
			t.Errorf("what the old key sealed: %v", err)
		}
		if err := holds(); err != nil {
			t.Errorf("a session, after the data key is gone: %v", err)
		}
		now.now = now.now.Add(20 * time.Minute)
		if err := holds(); hearth.KindOf(err) != hearth.UnrecognizedClient {
			t.Errorf("a session, after its time: %v", err)
		}
		// And so it is after a start.
		a = mustLoad(t, Config{Dir: dir, Clock: now, Log: quiet()})
		if err := join(); err != nil {
			t.Fatal(err)
		}
		if err := all.check(a); err != nil || len(a.Master().DataKeys) != 1 {
			t.Errorf("%+v, %v", a.Master(), err)
		}
		if session, err = a.Mint(Grant{Account: a.Root().Account}, time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := holds(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Rotate(t.Context(), "", 0); err != nil {
			t.Fatal(err)
		}
		if err := holds(); hearth.KindOf(err) != hearth.UnrecognizedClient {
			t.Errorf("a session that was to end at once: %v", err)
		}
	}
}

// What a database has counts, whenever a rotation ended before all was done, and
// for a copy of the folder of before it.
func TestWhatTheDatabaseKeepsCounts(t *testing.T) {
	dir := t.TempDir()
	at := new(elsewhere)
	load := func(dir string) (*Authority, error) {
		a, err := LoadOrCreate(Config{Dir: dir, Clock: newClock(), Log: quiet()})
		if err == nil {
			err = a.Join(t.Context(), at)
		}
		return a, err
	}
	a, err := load(dir)
	if err == nil {
		err = a.Publish(t.Context(), at)
	}
	if err != nil {
		t.Fatal(err)
	}
	var all sealed
	all.add(t, a, "text")
	files := func(from, to string, names ...string) {
		t.Helper()
		for _, name := range names {
			b, err := os.ReadFile(filepath.Join(from, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(to, name), b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	standby := t.TempDir()
	files(dir, standby, MasterKeyFile, CredentialsFile, DataKeysFile)
	waiting, err := LoadOrCreate(Config{Dir: standby, Clock: newClock(), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	own, err := waiting.Key().Seal([]byte("of the standby's folder"), nil)
	if err != nil {
		t.Fatal(err)
	}

	// The database takes nothing: nothing has changed.
	at.err = errors.New("away")
	if _, err := a.Rotate(t.Context(), "", 0); err == nil || a.Current() != 1 {
		t.Fatalf("%v, current is %d", err, a.Current())
	}
	if a, err = load(dir); err != nil || all.check(a) != nil {
		t.Fatal(err, all.check(a))
	}
	if err := a.Publish(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	// It is in the database, and the folder has not heard of it.
	before := t.TempDir()
	files(dir, before, DataKeysFile)
	if _, err := a.Rotate(t.Context(), "", 0); err != nil {
		t.Fatal(err)
	}
	all.add(t, a, "by the new key")
	files(before, dir, DataKeysFile)
	old, err := readMasters(filepath.Join(standby, MasterKeyFile), quiet())
	if err != nil {
		t.Fatal(err)
	}
	both, err := readMasters(filepath.Join(dir, MasterKeyFile), quiet())
	if err != nil {
		t.Fatal(err)
	}
	for id, key := range old {
		both[id] = key
	}
	if err := writeMasters(filepath.Join(dir, MasterKeyFile), both); err != nil {
		t.Fatal(err)
	}
	if a, err = load(dir); err != nil {
		t.Fatal(err)
	}
	if err := all.check(a); err != nil {
		t.Error(err)
	}
	if m, err := readMasters(filepath.Join(dir, MasterKeyFile), quiet()); err != nil || len(m) != 1 {
		t.Errorf("%d master keys, %v", len(m), err)
	}
	all.reseal(t, a)
	if _, err := a.Forget(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	// The standby needs the master key, and nothing else; what it had sealed opens.
	if err := waiting.Join(t.Context(), at); err == nil || !strings.Contains(err.Error(), "bring it from there") {
		t.Errorf("without the master key: %v", err)
	}
	files(dir, standby, MasterKeyFile)
	if err := waiting.Join(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	all.arn = "" // its file is in the other folder
	if err := all.check(waiting); err != nil {
		t.Error(err)
	}
	if plain, err := waiting.Key().Open(own, nil); err != nil || string(plain) != "of the standby's folder" {
		t.Errorf("%q, %v", plain, err)
	}
}

// Whoever makes a customer key meanwhile keeps the data key from going.
func TestADataKeyStaysWhileAnotherProcessWorksWithIt(t *testing.T) {
	dir := t.TempDir()
	a := mustLoad(t, Config{Dir: dir, Clock: newClock(), Log: quiet()})
	if err := a.Join(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Rotate(t.Context(), "", 0); err != nil {
		t.Fatal(err)
	}
	keys, done, err := OpenKeyring(dir, filepath.Join(dir, MasterKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	forgot := make(chan error, 1)
	go func() {
		_, err := a.Forget(t.Context(), 2)
		forgot <- err
	}()
	k, err := keys.Create("", "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-forgot:
		t.Errorf("it was not waited for: %v", err)
	default:
	}
	done()
	if err := <-forgot; err != nil {
		t.Fatal(err)
	}
	if _, err := a.Keys().Seal(k.ARN, []byte("x"), nil); err != nil {
		t.Error(err)
	}
}
