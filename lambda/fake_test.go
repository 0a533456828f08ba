package lambda

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/signing"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/files"
	"github.com/hearth-faas/hearth/store/sqlite"
	"github.com/hearth-faas/hearth/worker/logs"
)

const testAccount hearth.Account = "000000000000"

// testRegistry is a registry on a data folder of its own, whose changes have
// settled when they return: nobody has to wait for states, and what it does
// else is the real thing.
type testRegistry struct {
	*registry.Registry
	t       testing.TB
	holding *sync.RWMutex // preparations wait for it
	records store.Store

	mappings *event.Mappings // on the same store
	signing  *signing.Configs
	profiles signing.Profiles
}

// hold keeps changes in progress until the returned function is called.
func (r testRegistry) hold() (release func()) {
	r.holding.Lock()
	return r.holding.Unlock
}

func newTestRegistry(t testing.TB, c hearth.Clock) testRegistry {
	t.Helper()
	dir := t.TempDir()
	records, err := sqlite.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := files.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	holding := new(sync.RWMutex)
	var r *registry.Registry
	profiles := signing.Profiles{Dir: filepath.Join(dir, signing.FolderName), Account: string(testAccount), Region: "us-east-1"}
	configs, err := signing.Open(t.Context(), signing.Options{
		Store: records, Clock: c, Region: "us-east-1", Profiles: profiles, Log: slog.New(slog.DiscardHandler),
		Used: func(account hearth.Account, arn string) bool {
			for c := range r.EverySettings() {
				if c.Account == account && c.Settings.CodeSigningConfig == arn {
					return true
				}
			}
			return false
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err = registry.Open(t.Context(), registry.Config{
		Verify: func(ctx context.Context, account hearth.Account, config, what string, archive io.ReaderAt, size int64) (string, string, error) {
			claims, err := configs.Verify(ctx, account, config, what, archive, size)
			return claims.ProfileVersion, claims.Job, err
		},
		Prepare: func(context.Context, *hearth.Function) error {
			holding.RLock()
			defer holding.RUnlock()
			return nil
		},
		Store: records, Blobs: blobs, Images: testImages{}, Secrets: plain{}, Clock: c, Region: "us-east-1", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	mappings, err := event.Open(t.Context(), event.Config{Store: records, Clock: c, Region: "us-east-1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(mappings.Close(), r.Close(), records.Close()); err != nil {
			t.Error(err)
		}
	})
	return testRegistry{r, t, holding, records, mappings, configs, profiles}
}

// plain seals nothing: what is on the disk is the registry's own tests' affair.
type plain struct{}

func (plain) Seal(b, _ []byte) ([]byte, error) { return b, nil }
func (plain) Open(b, _ []byte) ([]byte, error) { return b, nil }

// settled waits until nothing of f is in progress and returns what it is then.
// The registry's jobs give no event to wait on but the state itself.
func (r testRegistry) settled(f *hearth.Function, err error) (*hearth.Function, error) {
	for end := time.Now().Add(2 * time.Minute); err == nil && time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		latest, err := r.Get(context.Background(), f.Account, f.Name, "")
		if err != nil {
			return nil, err
		}
		this, err := r.Get(context.Background(), f.Account, f.Name, f.Version)
		if err != nil {
			return nil, err
		}
		if latest.State != hearth.Pending && this.State != hearth.Pending && latest.UpdateStatus != hearth.UpdateInProgress {
			return this, nil
		}
	}
	if err == nil {
		r.t.Errorf("%s does not settle", f.QualifiedARN())
	}
	return f, err
}

func (r testRegistry) Create(ctx context.Context, c registry.Create) (*hearth.Function, error) {
	return r.settled(r.Registry.Create(ctx, c))
}

func (r testRegistry) UpdateCode(ctx context.Context, account hearth.Account, name string, u registry.UpdateCode) (*hearth.Function, error) {
	return r.settled(r.Registry.UpdateCode(ctx, account, name, u))
}

func (r testRegistry) UpdateConfiguration(ctx context.Context, account hearth.Account, name string, u registry.UpdateConfiguration) (*hearth.Function, error) {
	return r.settled(r.Registry.UpdateConfiguration(ctx, account, name, u))
}

func (r testRegistry) Publish(ctx context.Context, account hearth.Account, name string, p registry.Publish) (*hearth.Function, error) {
	return r.settled(r.Registry.Publish(ctx, account, name, p))
}

// fakeInvoker answers with the event and keeps what it was given.
type fakeInvoker struct {
	registry testRegistry
	answer   func(*hearth.Invocation) (*hearth.Result, error)

	mu   sync.Mutex
	seen []*hearth.Invocation
}

func (i *fakeInvoker) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	f, err := i.registry.Resolve(ctx, inv.Account, inv.Name, inv.Qualifier)
	if err != nil {
		return nil, err
	}
	inv.Function = f
	i.mu.Lock()
	i.seen = append(i.seen, inv)
	i.mu.Unlock()
	if inv.DryRun {
		return nil, nil
	}
	if i.answer != nil {
		return i.answer(inv)
	}
	r := &hearth.Result{Payload: inv.Payload, Version: f.Version}
	if inv.Tail {
		r.LogTail = []byte("START RequestId: " + inv.RequestID)
	}
	return r, nil
}

func (i *fakeInvoker) last() *hearth.Invocation {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.seen[len(i.seen)-1]
}

// fakeLogs is one group with one stream of numbered lines.
type fakeLogs struct {
	LogStore // not for writing
	lines    []string
}

func (l fakeLogs) Groups(_ context.Context, _ hearth.Account, prefix, _ string, _ int) ([]logs.Group, string, error) {
	if !strings.HasPrefix("/aws/lambda/hello", prefix) {
		return nil, "", nil
	}
	return []logs.Group{{Name: "/aws/lambda/hello", Created: testNow, StoredBytes: 10, Class: "STANDARD"}}, "more", nil
}

func (l fakeLogs) Streams(_ context.Context, _ hearth.Account, group string, q logs.StreamQuery) ([]logs.StreamInfo, string, error) {
	if group != "/aws/lambda/hello" {
		return nil, "", hearth.Errorf(hearth.NotFound, "The specified log group does not exist.")
	}
	return []logs.StreamInfo{{Name: "2026/03/04/[$LATEST]abc", Created: testNow, LastEvent: testNow}}, "", nil
}

func (l fakeLogs) events() (events []logs.Event) {
	for i, line := range l.lines {
		events = append(events, logs.Event{At: testNow, Ingested: testNow, Stream: "2026/03/04/[$LATEST]abc", Message: line, ID: strconv.Itoa(i)})
	}
	return events
}

func (l fakeLogs) Events(_ context.Context, _ hearth.Account, _, _ string, q logs.EventQuery) (logs.EventPage, error) {
	return logs.EventPage{Events: l.events(), Forward: "f/1", Backward: "b/0"}, nil
}

func (l fakeLogs) Filter(_ context.Context, _ hearth.Account, _ string, q logs.FilterQuery) ([]logs.Event, string, error) {
	return slices.DeleteFunc(l.events(), func(e logs.Event) bool { return q.Match != nil && !q.Match(e.Message) }), "", nil
}

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
