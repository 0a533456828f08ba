package server

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/hearth-faas/hearth/audit"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/store"
)

// serving is hearth proxy serve in this process, until stop is called.
func serving(t *testing.T, dir string) (c *control.Client, stop func()) {
	t.Helper()
	cfg := DefaultProxyConfig()
	cfg.DataDir, cfg.Listen = dir, "127.0.0.1:0"
	cfg.Execution = ExecutionConfig{Endpoint: "http://127.0.0.1:1", Credentials: filepath.Join(t.TempDir(), "execution")}
	const profile = "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = secret\n" // nothing is called
	if err := os.WriteFile(cfg.Execution.Credentials, []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := NewProxy(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx) }()
	select {
	case <-p.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	root := p.authority.Root()
	c = &control.Client{
		Endpoint: "http://" + p.Addr().String(), Region: root.Region,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: root.AccessKeyID, SecretAccessKey: root.SecretAccessKey.Reveal()}, nil
		}),
	}
	return c, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// oneKey waits until the older data keys are removed, and is the one that is left.
func oneKey(t *testing.T, c *control.Client) control.DataKey {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		status, err := c.KeyStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(status.DataKeys) == 1 && !status.Resealing {
			return status.DataKeys[0]
		}
		if time.Now().After(end) {
			t.Fatalf("older keys are left: %+v", status)
		}
	}
}

// After a rotation, with a server and without one, a folder of proxy endpoints
// keeps the newest data key alone, and what the others have sealed opens.
func TestProxyEndpointsKeepOneDataKeyAfterRotations(t *testing.T) {
	dir := t.TempDir()
	master := filepath.Join(dir, identity.MasterKeyFile)
	c, stop := serving(t, dir)
	if k := oneKey(t, c); k.Generation != 1 {
		t.Errorf("at first it is %+v", k)
	}
	if _, err := c.RotateKey(t.Context(), "", false); err != nil {
		t.Fatal(err)
	}
	if k := oneKey(t, c); k.Generation != 2 || k.Records["audit log"] != 1 {
		t.Errorf("rotated while it runs it is %+v", k)
	}
	stop()
	folder, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = identity.Rotate(dir, master, master, time.Now(), slog.New(slog.DiscardHandler))
	if err = errors.Join(err, folder.Close()); err != nil {
		t.Fatal(err)
	}
	c, stop = serving(t, dir)
	if k := oneKey(t, c); k.Generation != 3 {
		t.Errorf("rotated while it does not run it is %+v", k)
	}
	if v, err := c.VerifyAudit(t.Context(), ""); err != nil || len(v.Wrong) > 0 {
		t.Errorf("the audit log: %+v, %v", v, err)
	}
	found, err := c.Audit(t.Context(), audit.Filter{Action: "hearth:RotateKey"})
	if err != nil || len(found) != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	stop()
}
