package identity

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

func TestAKeySealsForItselfAloneAndOnlyWhileEnabled(t *testing.T) {
	dir := t.TempDir()
	keys := mustLoad(t, Config{Dir: dir}).Keys()
	info, err := keys.Create("", "for team a", time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	other, err := keys.Create("", "", time.Unix(2, 0))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		to := []byte(rapid.String().Draw(t, "to"))
		sealed, err := keys.Seal(info.ARN, plain, to)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := keys.Open(info.ARN, sealed, to); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%q %v", got, err)
		}
		if _, err := keys.Open(other.ARN, sealed, to); err != ErrSealed {
			t.Fatalf("opened by another key: %v", err)
		}
		if _, err := keys.Open(info.ARN, sealed, append(to, 'x')); err != ErrSealed {
			t.Fatalf("opened for another: %v", err)
		}
		sealed[rapid.IntRange(0, len(sealed)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := keys.Open(info.ARN, sealed, to); err != ErrSealed {
			t.Fatalf("opened although changed: %v", err)
		}
	})
	sealed, err := keys.Seal(info.ARN, []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	// What hearth keys does counts at once, in another process too.
	elsewhere, _, err := OpenKeyring(dir, filepath.Join(dir, MasterKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.Enable(info.ARN, false); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Seal(info.ARN, nil, nil); hearth.KindOf(err) != hearth.KMSDisabled || hearth.KindOf(keys.Check(info.ARN)) != hearth.KMSDisabled {
		t.Errorf("sealed by a disabled key: %v", err)
	}
	if got, err := keys.Open(info.ARN, sealed, nil); string(got) != "secret" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	if err := elsewhere.Enable(info.ARN, true); err != nil {
		t.Fatal(err)
	}
	if err := keys.Check(info.ARN); err != nil {
		t.Error(err)
	}
	list, err := keys.List()
	if err != nil || len(list) != 2 {
		t.Errorf("%v %v", list, err)
	}
	for _, arn := range []string{"", "x", info.ARN + "0", strings.Replace(info.ARN, ":key/", ":alias/", 1), strings.Replace(info.ARN, info.ARN[len(info.ARN)-36:], "../master.key", 1)} {
		if err := keys.Check(arn); hearth.KindOf(err) != hearth.KMSNotFound {
			t.Errorf("%q: %v", arn, err)
		}
	}
}

func TestAKeysFileIsForItsOwnerAndHoldsNoKeyInTheOpen(t *testing.T) {
	dir := t.TempDir()
	keys := mustLoad(t, Config{Dir: dir}).Keys()
	info, err := keys.Create("", "x", time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, KeysFolder, info.ARN[len(info.ARN)-36:]+".json")
	stat, err := os.Stat(path)
	if err != nil || stat.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", stat, err)
	}
	// The key of another server does not open it.
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	foreign := t.TempDir()
	theirs := mustLoad(t, Config{Dir: foreign}).Keys()
	if err := os.MkdirAll(filepath.Join(foreign, KeysFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(foreign, KeysFolder, filepath.Base(path)), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Seal(info.ARN, nil, nil); !errors.Is(err, ErrSealed) {
		t.Errorf("another server used it: %v", err)
	}
	if shown := fmt.Sprintf("%v %+v", keys, keys); strings.Contains(shown, "master") {
		t.Errorf("it is shown as %s", shown)
	}
}

// Keys are of accounts: an ARN with another account names none.
func TestAKeyIsOfOneAccount(t *testing.T) {
	keys := mustLoad(t, Config{Dir: t.TempDir(), Account: "123456789012"}).Keys()
	theirs, err := keys.Create("111122223333", "", time.Unix(1, 0))
	if err != nil || !strings.HasPrefix(theirs.ARN, "arn:aws:kms:us-east-1:111122223333:key/") {
		t.Fatalf("%+v, %v", theirs, err)
	}
	if err := keys.Check(theirs.ARN); err != nil {
		t.Error(err)
	}
	for _, arn := range []string{strings.Replace(theirs.ARN, "111122223333", "123456789012", 1), strings.Replace(theirs.ARN, "us-east-1", "eu-west-1", 1)} {
		if err := keys.Check(arn); hearth.KindOf(err) != hearth.KMSNotFound {
			t.Errorf("%s: %v", arn, err)
		}
	}
	list, err := keys.List()
	if err != nil || len(list) != 1 || list[0] != theirs {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := keys.Create("12", "", time.Unix(1, 0)); err == nil {
		t.Error("a key of no account is made")
	}
}
