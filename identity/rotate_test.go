package identity

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	systemclock "github.com/hearth-faas/hearth/clock"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func openWith(dir, master string) (*Authority, error) {
	a, err := LoadOrCreate(Config{Dir: dir, MasterKey: master, Clock: systemclock.System(), Log: quiet()})
	if err != nil {
		return nil, err
	}
	return a, a.Join(context.Background(), nil)
}

// sealed is everything that a folder has sealed, and must go on to open.
type sealed struct {
	texts [][]byte
	arn   string
	under []byte // by the customer key arn
}

func (s *sealed) add(t testing.TB, a *Authority, text string) {
	t.Helper()
	b, err := a.Key().Seal([]byte(text), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	s.texts = append(s.texts, b)
	if s.arn == "" {
		k, err := a.Keys().Create(a.Root().Account, "", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		s.arn = k.ARN
		if s.under, err = a.Keys().Seal(k.ARN, []byte("under"), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *sealed) check(a *Authority) error {
	for _, b := range s.texts {
		if _, err := a.Key().Open(b, []byte("x")); err != nil {
			return err
		}
	}
	if s.arn == "" {
		return nil
	}
	if plain, err := a.Keys().Open(s.arn, s.under, nil); err != nil || string(plain) != "under" {
		return errors.Join(err, errors.New("a customer key does not open what it sealed"))
	}
	return nil
}

// Through any history of rotations, moves and starts everything that was ever
// sealed opens, the old master key opens nothing, and sessions of before end.
func TestEverythingSealedOpensAfterAnyRotations(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		top, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		dir, outside := filepath.Join(top, "data"), filepath.Join(top, "keys")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(outside, 0o700)); err != nil {
			t.Fatal(err)
		}
		place := filepath.Join(dir, MasterKeyFile)
		if rapid.Bool().Draw(rt, "begins outside") {
			place = filepath.Join(outside, "first")
		}
		a, err := openWith(dir, place)
		if err != nil {
			t.Fatal(err)
		}
		var all sealed
		all.add(t, a, "first")
		for i := range rapid.IntRange(1, 5).Draw(rt, "rotations") {
			old, err := os.ReadFile(place)
			if err != nil {
				t.Fatal(err)
			}
			session, err := a.Mint(Grant{Account: a.Root().Account}, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			to := place
			if rapid.Bool().Draw(rt, "moves") {
				to = filepath.Join(outside, string(rune('a'+i)))
			}
			info, err := Rotate(dir, place, to, time.Now(), quiet())
			if err != nil {
				rt.Fatal(err)
			}
			if len(info.DataKeys) != i+2 || !info.DataKeys[i+1].Current || info.File != to {
				rt.Fatalf("%+v", info)
			}
			place = to
			if a, err = openWith(dir, place); err != nil {
				rt.Fatal(err)
			}
			if err := all.check(a); err != nil {
				rt.Fatal(err)
			}
			if _, _, err := a.Lookup(session.AccessKeyID, session.SessionToken.Reveal()); hearth.KindOf(err) != hearth.UnrecognizedClient {
				rt.Fatalf("a session of before: %v", err)
			}
			all.add(t, a, "more")
			stale := filepath.Join(top, "stale")
			if err := os.WriteFile(stale, old, 0o600); err != nil {
				t.Fatal(err)
			}
			// The new one would be found where the rotation has put it.
			if err := os.Rename(place, place+".hidden"); err != nil {
				t.Fatal(err)
			}
			if _, err := openWith(dir, stale); err == nil || !strings.Contains(err.Error(), "--master-key-file") {
				rt.Fatalf("the old master key: %v", err)
			}
			if err := os.Rename(place+".hidden", place); err != nil {
				t.Fatal(err)
			}
			if _, err := openWith(dir, stale); (err == nil) != (place != filepath.Join(dir, MasterKeyFile)) {
				rt.Fatalf("the key that is where a rotation has put it: %v", err)
			}
		}
	})
}

// Wherever a rotation is interrupted, the next start finds its way, and the
// next rotation is whole.
func TestARotationMayBeInterruptedAnywhere(t *testing.T) {
	for _, move := range []bool{false, true} {
		for step := range 3 {
			dir, outside := t.TempDir(), t.TempDir()
			from := filepath.Join(dir, MasterKeyFile)
			to := from
			if move {
				to = filepath.Join(outside, "new")
			}
			a, err := openWith(dir, from)
			if err != nil {
				t.Fatal(err)
			}
			var all sealed
			all.add(t, a, "text")
			d, err := openDataKeys(dir, from, defaultRand, quiet())
			if err != nil {
				t.Fatal(err)
			}
			if step >= 1 {
				next, err := d.nextMaster(to)
				if err != nil {
					t.Fatal(err)
				}
				if step >= 2 {
					if err := d.replace(t.Context(), next, to, time.Now()); err != nil {
						t.Fatal(err)
					}
				}
			}
			starts := from
			if step == 2 {
				starts = to
			}
			for range 2 {
				if a, err = openWith(dir, starts); err != nil {
					t.Fatalf("move %v, step %d: %v", move, step, err)
				}
				if err := all.check(a); err != nil {
					t.Fatalf("move %v, step %d: %v", move, step, err)
				}
			}
			if step == 2 && move && exists(from) {
				t.Error("the old master key is left in the data folder")
			}
			if m, err := readMasters(starts, quiet()); err != nil || len(m) != 1 {
				t.Errorf("move %v, step %d: %d keys are left, %v", move, step, len(m), err)
			}
			if step == 2 {
				to = starts
			}
			if _, err := Rotate(dir, starts, to, time.Now(), quiet()); err != nil {
				t.Fatalf("move %v, step %d: %v", move, step, err)
			}
			if a, err = openWith(dir, to); err != nil {
				t.Fatal(err)
			}
			if err := all.check(a); err != nil {
				t.Fatal(err)
			}
			if move && step < 2 && exists(from) {
				t.Error("the old master key is still in the data folder")
			}
		}
	}
}

func TestTheMasterKeysPlaceIsToldOrFound(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{}
	get := func(name string) string { return env[name] }
	if got := MasterKeyPlace("/data", "", get); got != "/data/"+MasterKeyFile {
		t.Error(got)
	}
	env["CREDENTIALS_DIRECTORY"] = dir
	if got := MasterKeyPlace("/data", "", get); got != "/data/"+MasterKeyFile {
		t.Error("a credential that is not there:", got)
	}
	if err := os.WriteFile(filepath.Join(dir, CredentialName), nil, 0o400); err != nil {
		t.Fatal(err)
	}
	if got := MasterKeyPlace("/data", "", get); got != filepath.Join(dir, CredentialName) {
		t.Error(got)
	}
	if got := MasterKeyPlace("/data", "/etc/k", get); got != "/etc/k" {
		t.Error(got)
	}
}

func TestAMasterKeyThatIsGoneIsNotMadeAnew(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if _, err := openWith(dir, ""); err != nil {
		t.Fatal(err)
	}
	_, err := openWith(dir, filepath.Join(outside, "k"))
	if err == nil || !strings.Contains(err.Error(), "is gone") || !strings.Contains(err.Error(), filepath.Join(dir, MasterKeyFile)) {
		t.Error(err)
	}
	if exists(filepath.Join(outside, "k")) {
		t.Error("one was made")
	}
}

// A folder from before there were data keys, and one whose key was moved by
// hand, are taken as they are.
func TestAnOlderFolderIsTakenOver(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	a, err := openWith(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	var all sealed
	all.add(t, a, "text")
	if all.texts[0][0] != sealVersion {
		t.Errorf("the first generation seals with version %d, which a Hearth of before can't open", all.texts[0][0])
	}
	if err := os.Remove(filepath.Join(dir, DataKeysFile)); err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(outside, "k")
	if err := os.Rename(filepath.Join(dir, MasterKeyFile), moved); err != nil {
		t.Fatal(err)
	}
	if a, err = openWith(dir, moved); err != nil {
		t.Fatal(err)
	}
	if err := all.check(a); err != nil {
		t.Error(err)
	}
	if m := a.Master(); m.Inside || m.File != moved {
		t.Errorf("%+v", m)
	}
}

func FuzzKeyFiles(f *testing.F) {
	key := bytes.Repeat([]byte{7}, keySize)
	one, _ := masters{masterID(key): key}.encode()
	f.Add(one)
	f.Add([]byte(`{"version":2,"keys":["` + strings.Repeat("A", 43) + `="]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMasters(b)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeMasters(again)
		if err != nil || len(back) != len(m) {
			t.Fatalf("%d keys, then %d, %v", len(m), len(back), err)
		}
	})
}
