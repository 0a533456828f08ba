package registry_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/registry"
)

func TestAnEnvironmentIsUnderTheKeyThatItsFunctionNames(t *testing.T) {
	var keys *identity.Keyring
	dir := t.TempDir()
	authority, err := identity.LoadOrCreate(identity.Config{Dir: dir, Account: account})
	if err != nil {
		t.Fatal(err)
	}
	keys = authority.Keys()
	w := newWorld(t, dir, func(c *registry.Config) { c.Keys = keys })
	defer func() { w.close() }()
	info, err := keys.Create(account, "", time.Unix(1, 0))
	w.must(err)

	f := function("f")
	f.KMSKeyARN = "arn:aws:kms:us-east-1:111111111111:key/00000000-0000-0000-0000-000000000000"
	_, err = w.Create(ctx, registry.Create{Function: f, Zip: code("x")})
	wantError(t, err, hearth.InvalidParameter, "Lambda was unable to configure access to your environment variables because the KMS key is invalid for CreateGrant. Please check your KMS key settings. KMS Exception: NotFoundException KMS Message: Key '"+f.KMSKeyARN+"' does not exist")
	f.KMSKeyARN = ""
	w.got(w.Create(ctx, registry.Create{Function: f, Zip: code("x")}))
	w.settled("f")
	// Naming a key encrypts anew, and so does naming none again.
	w.got(w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{KMSKeyARN: &info.ARN}))
	w.settled("f")
	w.reopen()
	if got := w.got(w.Get(ctx, account, "f", "")); got.Env["MODE"] != "test" {
		t.Errorf("after a restart: %v", got.Env)
	}

	w.must(keys.Enable(info.ARN, false))
	_, err = w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{MemoryMiB: new(256)})
	if hearth.KindOf(err) != hearth.InvalidParameter {
		t.Errorf("changed under a disabled key: %v", err)
	}
	w.reopen() // a disabled key does not keep a server from starting
	w.must(keys.Enable(info.ARN, true))
	if got := w.got(w.Get(ctx, account, "f", "")); got.Env["MODE"] != "test" {
		t.Errorf("enabled again: %v", got.Env)
	}

	// While the key is gone nothing is written over what it opens.
	file := filepath.Join(dir, identity.KeysFolder, info.ARN[len(info.ARN)-36:]+".json")
	w.must(os.Rename(file, file+".away"))
	w.reopen()
	if _, err := w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{MemoryMiB: new(256)}); hearth.KindOf(err) != hearth.InvalidParameter {
		t.Errorf("changed without its key: %v", err)
	}
	if err := w.Tag(ctx, account, "f", map[string]string{"a": "b"}); err == nil {
		t.Error("tagged without its key: its environment would be lost")
	}
	w.must(os.Rename(file+".away", file))
	w.reopen()
	if got := w.got(w.Get(ctx, account, "f", "")); got.Env["MODE"] != "test" {
		t.Errorf("the key came back: %v", got.Env)
	}
	w.got(w.UpdateConfiguration(ctx, account, "f", registry.UpdateConfiguration{KMSKeyARN: new("")}))
	w.settled("f")
	w.must(os.Remove(file))
	w.reopen()
	if got := w.got(w.Get(ctx, account, "f", "")); got.Env["MODE"] != "test" || got.KMSKeyARN != "" {
		t.Errorf("under the server's own key again: %v", got.Env)
	}
}
