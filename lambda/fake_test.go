package lambda

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/worker/logs"
)

const testAccount hearth.Account = "000000000000"

// fakeRegistry keeps functions in a map: enough to see what the wire asks of
// a registry and what it makes of the answers.
type fakeRegistry struct {
	mu        sync.Mutex
	functions map[string]*fakeFunction
	packages  map[string][]byte
	revision  int
}

type fakeFunction struct {
	latest   *hearth.Function
	versions []*hearth.Function
	tags     map[string]string
}

func newFakeRegistry() *fakeRegistry {
	return &fakeRegistry{functions: map[string]*fakeFunction{}, packages: map[string][]byte{}}
}

var _ Registry = (*fakeRegistry)(nil)

func (r *fakeRegistry) stamp(f *hearth.Function) *hearth.Function {
	g := *f
	r.revision++
	g.RevisionID = "revision-" + strconv.Itoa(r.revision)
	g.LastModified = testNow
	g.State, g.UpdateStatus = hearth.Active, hearth.UpdateSuccessful
	return &g
}

func (r *fakeRegistry) store(zip []byte) hearth.Package {
	sum := sha256.Sum256(zip)
	sha := hex.EncodeToString(sum[:])
	r.packages[sha] = zip
	return hearth.Package{SHA256: sha, Size: int64(len(zip))}
}

func notFound(account hearth.Account, name, qualifier string) error {
	arn := fmt.Sprintf("arn:aws:lambda:us-east-1:%s:function:%s", account, name)
	if qualifier != "" {
		arn += ":" + qualifier
	}
	return hearth.Errorf(hearth.NotFound, "Function not found: %s", arn)
}

func (r *fakeRegistry) find(account hearth.Account, name string) (*fakeFunction, error) {
	f := r.functions[name]
	if f == nil {
		return nil, notFound(account, name, "")
	}
	return f, nil
}

func (r *fakeRegistry) Create(_ context.Context, c registry.Create) (*hearth.Function, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.functions[c.Function.Name] != nil {
		return nil, hearth.Errorf(hearth.Conflict, "Function already exist: %s", c.Function.Name)
	}
	f := c.Function
	f.Package = r.store(c.Zip)
	made := &fakeFunction{latest: r.stamp(&f), tags: c.Tags}
	r.functions[f.Name] = made
	if c.Publish {
		return r.publish(made), nil
	}
	return made.latest, nil
}

func (r *fakeRegistry) publish(f *fakeFunction) *hearth.Function {
	v := r.stamp(f.latest)
	v.Version = strconv.Itoa(len(f.versions) + 1)
	f.versions = append(f.versions, v)
	return v
}

func (r *fakeRegistry) Get(_ context.Context, account hearth.Account, name, qualifier string) (*hearth.Function, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.functions[name]
	if f == nil {
		return nil, notFound(account, name, qualifier)
	}
	if qualifier == "" || qualifier == hearth.Latest {
		return f.latest, nil
	}
	for _, v := range f.versions {
		if v.Version == qualifier {
			return v, nil
		}
	}
	return nil, notFound(account, name, qualifier)
}

func (r *fakeRegistry) Resolve(ctx context.Context, account hearth.Account, name, qualifier string) (*hearth.Function, error) {
	return r.Get(ctx, account, name, qualifier)
}

func page(fs []*hearth.Function, marker string, limit int) ([]*hearth.Function, string, error) {
	from := 0
	if marker != "" {
		from, _ = strconv.Atoi(marker)
	}
	to := min(from+limit, len(fs))
	next := ""
	if to < len(fs) {
		next = strconv.Itoa(to)
	}
	return fs[from:to], next, nil
}

func (r *fakeRegistry) List(_ context.Context, _ hearth.Account, marker string, limit int, all bool) ([]*hearth.Function, string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var fs []*hearth.Function
	for _, name := range slices.Sorted(maps.Keys(r.functions)) {
		fs = append(fs, r.functions[name].latest)
		if all {
			fs = append(fs, r.functions[name].versions...)
		}
	}
	return page(fs, marker, limit)
}

func (r *fakeRegistry) Versions(_ context.Context, account hearth.Account, name, marker string, limit int) ([]*hearth.Function, string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := r.find(account, name)
	if err != nil {
		return nil, "", err
	}
	return page(append([]*hearth.Function{f.latest}, f.versions...), marker, limit)
}

func (r *fakeRegistry) UpdateCode(_ context.Context, account hearth.Account, name string, u registry.UpdateCode) (*hearth.Function, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := r.find(account, name)
	if err != nil {
		return nil, err
	}
	if u.RevisionID != "" && u.RevisionID != f.latest.RevisionID {
		return nil, hearth.Errorf(hearth.PreconditionFailed, "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id")
	}
	g := *f.latest
	g.Package = r.store(u.Zip)
	if u.Architectures != nil {
		g.Architectures = u.Architectures
	}
	if u.DryRun {
		return &g, nil
	}
	f.latest = r.stamp(&g)
	if u.Publish {
		return r.publish(f), nil
	}
	return f.latest, nil
}

func (r *fakeRegistry) UpdateConfiguration(_ context.Context, account hearth.Account, name string, u registry.UpdateConfiguration) (*hearth.Function, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := r.find(account, name)
	if err != nil {
		return nil, err
	}
	g := *f.latest
	before := g
	apply(u, &g)
	if u.Env == nil {
		g.Env = before.Env
	}
	f.latest = r.stamp(&g)
	return f.latest, nil
}

func (r *fakeRegistry) Delete(_ context.Context, account hearth.Account, name, qualifier string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := r.find(account, name)
	if err != nil {
		return err
	}
	if qualifier == "" {
		delete(r.functions, name)
		return nil
	}
	f.versions = slices.DeleteFunc(f.versions, func(v *hearth.Function) bool { return v.Version == qualifier })
	return nil
}

func (r *fakeRegistry) Publish(_ context.Context, account hearth.Account, name string, p registry.Publish) (*hearth.Function, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := r.find(account, name)
	if err != nil {
		return nil, err
	}
	if p.CodeSHA256 != "" && p.CodeSHA256 != codeSHA256(f.latest.Package.SHA256) {
		return nil, hearth.Errorf(hearth.InvalidParameter, "CodeSHA256 (%s) is different from current CodeSHA256 in $LATEST (%s). Please try again with the CodeSHA256 in $LATEST.", p.CodeSHA256, codeSHA256(f.latest.Package.SHA256))
	}
	v := r.publish(f)
	if p.Description != nil {
		v.Description = *p.Description
	}
	return v, nil
}

func (r *fakeRegistry) Tags(_ context.Context, account hearth.Account, name string) (map[string]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := r.find(account, name)
	if err != nil {
		return nil, err
	}
	return maps.Clone(f.tags), nil
}

func (r *fakeRegistry) Tag(_ context.Context, account hearth.Account, name string, tags map[string]string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := r.find(account, name)
	if err != nil {
		return err
	}
	if f.tags == nil {
		f.tags = map[string]string{}
	}
	maps.Copy(f.tags, tags)
	return nil
}

func (r *fakeRegistry) Untag(_ context.Context, account hearth.Account, name string, keys []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := r.find(account, name)
	if err != nil {
		return err
	}
	for _, k := range keys {
		delete(f.tags, k)
	}
	return nil
}

func (r *fakeRegistry) Usage(context.Context, hearth.Account) (registry.Usage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := registry.Usage{Functions: len(r.functions)}
	for _, f := range r.functions {
		u.CodeBytes += f.latest.Package.Size
	}
	return u, nil
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

func (r *fakeRegistry) OpenPackage(_ context.Context, sha string) (io.ReadSeekCloser, int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	zip, ok := r.packages[sha]
	if !ok {
		return nil, 0, hearth.Errorf(hearth.NotFound, "There is no package %s", sha)
	}
	return nopCloser{bytes.NewReader(zip)}, int64(len(zip)), nil
}

// fakeInvoker answers with the event and keeps what it was given.
type fakeInvoker struct {
	registry *fakeRegistry
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
type fakeLogs struct{ lines []string }

func (l fakeLogs) Groups(_ context.Context, _ hearth.Account, prefix, _ string, _ int) ([]logs.Group, string, error) {
	if !strings.HasPrefix("/aws/lambda/hello", prefix) {
		return nil, "", nil
	}
	return []logs.Group{{Name: "/aws/lambda/hello", Created: testNow, StoredBytes: 10}}, "more", nil
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
