package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/archive"
)

// Reasons that go with Pending and InProgress, for both as the service has
// them.
const (
	creating     = "The function is being created."
	creatingCode = "Creating"
)

// Create registers a function. It returns when the function is stored; it is
// Pending then, and becomes Active or Failed by itself.
func (r *Registry) Create(ctx context.Context, c Create) (*hearth.Function, error) {
	f := c.Function
	own(&f)
	f.Region, f.Version, f.PackageType = r.cfg.Region, hearth.Latest, cmpOr(f.PackageType, "Zip")
	f.PublishedAt, f.MasterARN = time.Time{}, ""
	if err := checkName(f.Name); err != nil {
		return nil, err
	}
	if err := r.check(&f); err != nil {
		return nil, err
	}
	if err := checkTags(c.Tags); err != nil {
		return nil, err
	}
	k := key{f.Account, f.Name}
	if r.view(k) != nil { // before the work; decided below
		return nil, exists(f.Name)
	}
	pkg, unpin, err := r.take(ctx, &f, c.Zip)
	if err != nil {
		return nil, err
	}
	defer unpin()

	defer r.locks.lock(k)()
	if r.view(k) != nil {
		return nil, exists(f.Name)
	}
	f.Package = pkg
	f.State, f.StateReason, f.StateReasonCode = hearth.Pending, creating, creatingCode
	if err := r.stamp(ctx, &f); err != nil {
		return nil, err
	}
	v := &view{newest: &f, next: 1, tags: maps.Clone(c.Tags)}
	answer := v.newest
	if c.Publish {
		if answer, err = r.publish(ctx, v, nil); err != nil {
			return nil, err
		}
	}
	return r.committed(ctx, "Create", k, nil, v, answer)
}

func exists(name string) error {
	return hearth.Errorf(hearth.Conflict, "Function already exist: %s", name)
}

func cmpOr(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// own makes f independent of what the caller may change later, and brings
// what is empty into one form.
func own(f *hearth.Function) {
	f.Architectures = slices.Clone(f.Architectures)
	if len(f.Architectures) == 0 {
		f.Architectures = []string{"x86_64"}
	}
	f.Env = maps.Clone(f.Env)
	if len(f.Env) == 0 {
		f.Env = nil
	}
	f.Layers = clone(f.Layers)
	f.FileSystems = clone(f.FileSystems)
	f.VPC.SubnetIDs = clone(f.VPC.SubnetIDs)
	f.VPC.SecurityGroupIDs = clone(f.VPC.SecurityGroupIDs)
}

func clone[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return slices.Clone(s)
}

// stamp gives a new or changed $LATEST its generation, time and identifiers,
// and the status of a change that is in progress.
func (r *Registry) stamp(ctx context.Context, f *hearth.Function) (err error) {
	if f.Generation, err = r.generations.take(ctx); err != nil {
		return internal("stamp", f, err)
	}
	if f.RevisionID, err = r.revision(); err != nil {
		return internal("stamp", f, err)
	}
	f.LastModified = r.cfg.Clock.Now().UTC().Round(0)
	f.UpdateStatus, f.UpdateReason, f.UpdateReasonCode = hearth.UpdateInProgress, creating, creatingCode
	// The service names the runtime's build; Hearth's build is the runtime.
	build := sha256.Sum256([]byte("hearth " + f.Runtime))
	f.RuntimeVersionARN = "arn:aws:lambda:" + f.Region + "::runtime:" + hex.EncodeToString(build[:])
	return nil
}

// take checks an archive and stores it. Until unpin is called it stays, even
// if nothing refers to it.
func (r *Registry) take(ctx context.Context, f *hearth.Function, zip []byte) (pkg hearth.Package, unpin func(), err error) {
	info, err := archive.Inspect(ctx, bytes.NewReader(zip), int64(len(zip)), r.cfg.Limits)
	if err != nil {
		return hearth.Package{}, nil, internal("take", f, err)
	}
	sum := sha256.Sum256(zip)
	pkg = hearth.Package{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(zip)), Unpacked: info.Unpacked}
	unpin = r.packages.pin(pkg.SHA256)
	if err := r.packages.put(ctx, pkg.SHA256, zip); err != nil {
		unpin()
		return hearth.Package{}, nil, internal("take", f, err)
	}
	return pkg, unpin, nil
}

// current finds a function for a change. The caller holds its lock.
func (r *Registry) current(k key, revision string) (*view, error) {
	v := r.view(k)
	switch {
	case v == nil:
		return nil, r.notFound(k.account, k.name, "")
	case revision != "" && revision != v.newest.RevisionID:
		return nil, wrongRevision()
	case v.newest.State == hearth.Pending:
		return nil, inState(v.newest)
	case v.newest.UpdateStatus == hearth.UpdateInProgress:
		return nil, inProgress(v.newest)
	}
	return v, nil
}

// UpdateCode gives the function new code. It returns when that is stored; the
// update is InProgress then, and becomes Successful or Failed by itself.
// After a failed one the function is what it was before.
func (r *Registry) UpdateCode(ctx context.Context, account hearth.Account, name string, u UpdateCode) (*hearth.Function, error) {
	k := key{account, name}
	v := r.view(k)
	if v == nil {
		return nil, r.notFound(account, name, "")
	}
	if u.RevisionID != "" && u.RevisionID != v.newest.RevisionID {
		return nil, wrongRevision() // before the work; decided below
	}
	pkg, unpin, err := r.take(ctx, v.newest, u.Zip)
	if err != nil {
		return nil, err
	}
	defer unpin()
	return r.update(ctx, k, u.RevisionID, u.DryRun, u.Publish, func(f *hearth.Function) {
		f.Package = pkg
		if u.Architectures != nil {
			f.Architectures = u.Architectures
		}
	})
}

// UpdateConfiguration changes the function's configuration, as UpdateCode
// does its code.
func (r *Registry) UpdateConfiguration(ctx context.Context, account hearth.Account, name string, u UpdateConfiguration) (*hearth.Function, error) {
	return r.update(ctx, key{account, name}, u.RevisionID, false, false, u.apply)
}

func (r *Registry) update(ctx context.Context, k key, revision string, dry, publish bool, apply func(*hearth.Function)) (*hearth.Function, error) {
	defer r.locks.lock(k)()
	old, err := r.current(k, revision)
	if err != nil {
		return nil, err
	}
	f := *old.newest
	apply(&f)
	own(&f)
	if err := r.check(&f); err != nil {
		return nil, err
	}
	if dry {
		return &f, nil
	}
	if err := r.stamp(ctx, &f); err != nil {
		return nil, err
	}
	if old.active == nil {
		// It failed before it ever was Active: this is a new attempt.
		f.State, f.StateReason, f.StateReasonCode = hearth.Pending, creating, creatingCode
	}
	v := *old
	v.newest = &f
	answer := v.newest
	if publish {
		if answer, err = r.publish(ctx, &v, nil); err != nil {
			return nil, err
		}
	}
	return r.committed(ctx, "update", k, old, &v, answer)
}

// Publish makes a version of $LATEST and returns it. If $LATEST is as it was
// when the last version was made, that one is returned.
func (r *Registry) Publish(ctx context.Context, account hearth.Account, name string, p Publish) (*hearth.Function, error) {
	k := key{account, name}
	defer r.locks.lock(k)()
	old, err := r.current(k, p.RevisionID)
	if err != nil {
		return nil, err
	}
	if old.newest.State != hearth.Active {
		return nil, inState(old.newest)
	}
	if have := codeSHA256(old.newest); p.CodeSHA256 != "" && p.CodeSHA256 != have {
		return nil, invalid("CodeSHA256 (%s) is different from current CodeSHA256 in $LATEST (%s). Please try again with the CodeSHA256 in $LATEST.", p.CodeSHA256, have)
	}
	v := *old
	answer, err := r.publish(ctx, &v, p.Description)
	if err != nil || v.next == old.next {
		return answer, err
	}
	// The service gives $LATEST a new revision with each version.
	f := *v.newest
	if f.RevisionID, err = r.revision(); err != nil {
		return nil, internal("Publish", &f, err)
	}
	v.newest, v.active = &f, &f
	return r.committed(ctx, "Publish", k, old, &v, answer)
}

// publish adds a version of v.newest to v, unless the last version is the
// same, and returns it.
func (r *Registry) publish(ctx context.Context, v *view, description *string) (*hearth.Function, error) {
	if last := v.find(v.next - 1); last != nil && sameContent(v.newest, last.f, last.description) {
		return last.f, nil
	}
	f := *v.newest
	f.Version = strconv.Itoa(v.next)
	if description != nil {
		f.Description = *description
	}
	if err := r.stamp(ctx, &f); err != nil {
		return nil, err
	}
	f.PublishedAt = f.LastModified
	f.State, f.StateReason, f.StateReasonCode = hearth.Pending, creating, creatingCode
	f.UpdateStatus, f.UpdateReason, f.UpdateReasonCode = hearth.UpdateSuccessful, "", ""
	v.versions = append(slices.Clip(v.versions), version{v.next, &f, v.newest.Description})
	v.next++
	return &f, nil
}

// sameContent tells whether a version that was made from a $LATEST of that
// description is what latest is now.
func sameContent(latest, ver *hearth.Function, description string) bool {
	return latest.Package == ver.Package && latest.Description == description &&
		latest.Runtime == ver.Runtime && latest.Handler == ver.Handler && latest.Role == ver.Role &&
		latest.MemoryMiB == ver.MemoryMiB && latest.Timeout == ver.Timeout && latest.TmpMiB == ver.TmpMiB &&
		slices.Equal(latest.Architectures, ver.Architectures) && maps.Equal(latest.Env, ver.Env) &&
		latest.PackageType == ver.PackageType && slices.Equal(latest.Layers, ver.Layers) &&
		latest.Logging == ver.Logging && latest.TracingMode == ver.TracingMode &&
		latest.DeadLetterTarget == ver.DeadLetterTarget && latest.KMSKeyARN == ver.KMSKeyARN &&
		latest.SnapStart == ver.SnapStart && slices.Equal(latest.FileSystems, ver.FileSystems) &&
		slices.Equal(latest.VPC.SubnetIDs, ver.VPC.SubnetIDs) &&
		slices.Equal(latest.VPC.SecurityGroupIDs, ver.VPC.SecurityGroupIDs) &&
		latest.VPC.IPv6Allowed == ver.VPC.IPv6Allowed
}

// Delete removes a function with everything of it, or one version. Whatever
// state it is in, and what is being prepared for it is given up.
func (r *Registry) Delete(ctx context.Context, account hearth.Account, name, qualifier string) error {
	k := key{account, name}
	defer r.locks.lock(k)()
	old := r.view(k)
	switch {
	case old == nil:
		return r.notFound(account, name, qualifier)
	case qualifier == hearth.Latest:
		return invalid("$LATEST version cannot be deleted without deleting the function.")
	case qualifier == "":
		return internal("Delete", old.newest, r.commit(ctx, k, old, nil))
	case old.find(number(qualifier)) == nil:
		return r.notFound(account, name, qualifier)
	}
	v := *old
	v.versions = slices.DeleteFunc(slices.Clone(v.versions), func(ver version) bool { return ver.f.Version == qualifier })
	return internal("Delete", old.newest, r.commit(ctx, k, old, &v))
}

// committed commits and, if that succeeds, returns answer.
func (r *Registry) committed(ctx context.Context, op string, k key, old, new *view, answer *hearth.Function) (*hearth.Function, error) {
	if err := r.commit(ctx, k, old, new); err != nil {
		return nil, internal(op, answer, err)
	}
	return answer, nil
}

// commit makes new what is stored and seen instead of old; nil is no
// function. The caller holds the key's lock.
func (r *Registry) commit(ctx context.Context, k key, old, new *view) error {
	grown := new.codeBytes() - old.codeBytes()
	r.mu.Lock()
	a := r.account(k.account)
	if grown > 0 && a.code+grown > r.cfg.CodeStorage {
		r.mu.Unlock()
		return hearth.Errorf(hearth.CodeStorageExceeded, "Code storage limit exceeded.")
	}
	a.code += grown
	r.mu.Unlock()

	if err := r.write(ctx, k, old, new); err != nil {
		r.mu.Lock()
		a.code -= grown
		r.mu.Unlock()
		return err
	}

	r.packages.refer(old, new)
	r.setView(k, new)
	r.mu.Lock()
	if new == nil {
		a.remove(k.name)
	} else {
		a.add(k.name)
	}
	r.mu.Unlock()
	r.tell(old, new)
	r.settleAll(k, old, new)
	return nil
}

// tell calls Changed for what Resolve answers differently now.
func (r *Registry) tell(old, new *view) {
	was, is := old.resolvable(), new.resolvable()
	for _, ver := range slices.SortedFunc(maps.Keys(merged(was, is)), strings.Compare) {
		o, n := was[ver], is[ver]
		if o == nil || n == nil || o.Generation != n.Generation {
			r.cfg.Changed(o, n)
		}
	}
}

func merged(a, b map[string]*hearth.Function) map[string]*hearth.Function {
	m := maps.Clone(a)
	maps.Copy(m, b)
	return m
}

// resolvable is what Resolve answers, by version.
func (v *view) resolvable() map[string]*hearth.Function {
	m := map[string]*hearth.Function{}
	if v == nil {
		return m
	}
	if v.active != nil {
		m[hearth.Latest] = v.active
	}
	for i := range v.versions {
		if f := v.versions[i].f; f.State == hearth.Active {
			m[f.Version] = f
		}
	}
	return m
}
