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
	"github.com/hearth-faas/hearth/tags"
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
	switch {
	case f.PackageType != image:
		f.Image = nil
	case f.Image == nil || f.Image.URI == "":
		return nil, invalid("Please provide ImageUri when creating a function with packageType Image.")
	}
	if err := r.check(&f); err != nil {
		return nil, err
	}
	if err := tags.Check(c.Tags); err != nil {
		return nil, err
	}
	if err := r.checkKey(&f); err != nil {
		return nil, err
	}
	k := key{f.Account, f.Name}
	if err := r.free(k); err != nil { // before the work; decided below
		return nil, err
	}
	if f.PackageType == image && len(f.Layers) > 0 {
		return nil, notForImages()
	}
	made, err := r.makeRoom(f.Account)
	if err != nil {
		return nil, err
	}
	defer made()
	layers, unpinLayers, err := r.useLayers(f.Account, c.Caller, f.Layers)
	if err != nil {
		return nil, err
	}
	defer unpinLayers()
	pkg, unpin, err := r.takeCode(ctx, &f, c.Zip)
	if err != nil {
		return nil, err
	}
	defer unpin()
	f.Package, f.Layers = pkg, clone(layers)
	if err := r.verify(ctx, &f, c.CodeSigningConfig, c.Zip); err != nil {
		return nil, err
	}
	if err := r.checkSize(&f); err != nil {
		return nil, err
	}

	defer r.locks.lock(k)()
	if err := r.free(k); err != nil {
		return nil, err
	}
	f.State, f.StateReason, f.StateReasonCode = hearth.Pending, creating, creatingCode
	if err := r.stamp(ctx, &f); err != nil {
		return nil, err
	}
	v := &view{newest: &f, next: 1, tags: maps.Clone(c.Tags)}
	if c.CodeSigningConfig != "" {
		v.settings = map[string]*Settings{"": {CodeSigningConfig: c.CodeSigningConfig}}
	}
	answer := v.newest
	if c.Publish || c.LatestPublished {
		if answer, err = r.publish(ctx, v, nil, c.LatestPublished); err != nil {
			return nil, err
		}
	}
	return r.committed(ctx, "Create", k, nil, v, answer)
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
	if f.Image != nil {
		i := *f.Image
		i.EntryPoint, i.Command = clone(i.EntryPoint), clone(i.Command)
		f.Image = &i
	}
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
	if f.PackageType == image {
		f.RuntimeVersionARN = ""
		return nil
	}
	// The service names the runtime's build; Hearth's build is the runtime.
	build := sha256.Sum256([]byte("hearth " + f.Runtime))
	f.RuntimeVersionARN = "arn:aws:lambda:" + f.Region + "::runtime:" + hex.EncodeToString(build[:])
	return nil
}

func notForImages() error {
	return invalid("Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image.")
}

// takeCode takes f's archive or, with its Image, finds the image that this
// names and pins it to what it is now.
func (r *Registry) takeCode(ctx context.Context, f *hearth.Function, zip []byte) (pkg hearth.Package, unpin func(), err error) {
	if f.PackageType != image {
		return r.take(ctx, f, zip)
	}
	pinned, digest, err := r.cfg.Images.Resolve(ctx, f.Image.URI, f.Architectures[0])
	if err != nil {
		return hearth.Package{}, nil, err
	}
	f.Image.Resolved = pinned
	return hearth.Package{SHA256: digest}, func() {}, nil
}

// take checks an archive and stores it. Until unpin is called it stays, even
// if nothing refers to it.
func (r *Registry) take(ctx context.Context, of interface{ ARN() string }, zip []byte) (pkg hearth.Package, unpin func(), err error) {
	info, err := archive.Inspect(ctx, bytes.NewReader(zip), int64(len(zip)), r.cfg.Limits)
	if err != nil {
		return hearth.Package{}, nil, internal("take", of, err)
	}
	sum := sha256.Sum256(zip)
	pkg = hearth.Package{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(zip)), Unpacked: info.Unpacked}
	unpin = r.packages.pin(pkg.SHA256)
	if err := r.packages.put(ctx, pkg.SHA256, zip); err != nil {
		unpin()
		return hearth.Package{}, nil, internal("take", of, err)
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
	taken := *v.newest
	own(&taken)
	switch {
	case taken.PackageType == image && u.ImageURI == "":
		return nil, invalid("Please provide ImageUri when updating a function with packageType Image.")
	case taken.PackageType == image:
		taken.Image.URI = u.ImageURI
	case u.ImageURI != "":
		return nil, invalid("Please don't provide ImageUri when updating a function with packageType Zip.")
	}
	if u.Architectures != nil {
		taken.Architectures = u.Architectures
	}
	pkg, unpin, err := r.takeCode(ctx, &taken, u.Zip)
	if err != nil {
		return nil, err
	}
	defer unpin()
	signed := *v.newest
	under := v.signingConfig()
	if err := r.verify(ctx, &signed, under, u.Zip); err != nil {
		return nil, err
	}
	publish := publishing{u.Publish || u.LatestPublished, u.LatestPublished}
	return r.update(ctx, k, u.RevisionID, u.DryRun, publish, under, func(f *hearth.Function) {
		f.Package = pkg
		if f.Image != nil && taken.Image != nil {
			i := *f.Image
			i.URI, i.Resolved = taken.Image.URI, taken.Image.Resolved
			f.Image = &i
		}
		f.SigningProfileVersionARN, f.SigningJobARN = signed.SigningProfileVersionARN, signed.SigningJobARN
		if u.Architectures != nil {
			f.Architectures = u.Architectures
		}
	})
}

// UpdateConfiguration changes the function's configuration, as UpdateCode
// does its code.
func (r *Registry) UpdateConfiguration(ctx context.Context, account hearth.Account, name string, u UpdateConfiguration) (*hearth.Function, error) {
	k := key{account, name}
	switch v := r.view(k); {
	case v == nil:
		return nil, r.notFound(account, name, "")
	case u.Image != nil && v.newest.PackageType != image:
		return nil, invalid("Please don't provide ImageConfig when updating a function with packageType Zip.")
	case v.newest.PackageType == image && len(u.Layers) > 0:
		return nil, notForImages()
	}
	layers, unpin, err := r.useLayers(account, u.Caller, u.Layers)
	if err != nil {
		return nil, err
	}
	defer unpin()
	u.Layers = layers
	under := r.signingConfigOf(k)
	if err := r.verifyLayers(ctx, account, under, layers); err != nil {
		return nil, err
	}
	return r.update(ctx, k, u.RevisionID, false, publishing{}, under, u.apply)
}

// publishing is whether a change makes a version too, and whether that is
// $LATEST.PUBLISHED.
type publishing struct{ version, latest bool }

func (r *Registry) update(ctx context.Context, k key, revision string, dry bool, publish publishing, under string, apply func(*hearth.Function)) (*hearth.Function, error) {
	defer r.locks.lock(k)()
	old, err := r.current(k, revision)
	if err != nil {
		return nil, err
	}
	if old.signingConfig() != under {
		return nil, hearth.Errorf(hearth.Conflict, "The function's code signing configuration was changed meanwhile. Please try again.")
	}
	f := *old.newest
	apply(&f)
	own(&f)
	if err := r.check(&f); err != nil {
		return nil, err
	}
	if err := r.checkSize(&f); err != nil {
		return nil, err
	}
	if err := r.checkKey(&f); err != nil {
		return nil, err
	}
	if publish.latest {
		if err := checkPublishTo(&f); err != nil {
			return nil, err
		}
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
	if publish.version {
		if answer, err = r.publish(ctx, &v, nil, publish.latest); err != nil {
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
	answer, err := r.publish(ctx, &v, p.Description, p.LatestPublished)
	if err != nil || v.next == old.next && v.published == old.published {
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
// same, and returns it: the next number's, or $LATEST.PUBLISHED.
func (r *Registry) publish(ctx context.Context, v *view, description *string, latest bool) (*hearth.Function, error) {
	if latest {
		return r.publishLatest(ctx, v, description)
	}
	if last := v.find(v.next - 1); last != nil && sameContent(v.newest, last.f, last.description) {
		return last.f, nil
	}
	f, err := r.copyOf(ctx, v.newest, strconv.Itoa(v.next), description)
	if err != nil {
		return nil, err
	}
	v.versions = append(slices.Clip(v.versions), version{v.next, f, v.newest.Description})
	v.next++
	return f, nil
}

// copyOf is a new version of latest, which is to be prepared.
func (r *Registry) copyOf(ctx context.Context, latest *hearth.Function, version string, description *string) (*hearth.Function, error) {
	f := *latest
	f.Version = version
	if description != nil {
		f.Description = *description
	}
	if err := r.stamp(ctx, &f); err != nil {
		return nil, err
	}
	f.PublishedAt = f.LastModified
	f.State, f.StateReason, f.StateReasonCode = hearth.Pending, creating, creatingCode
	f.UpdateStatus, f.UpdateReason, f.UpdateReasonCode = hearth.UpdateSuccessful, "", ""
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
		latest.VPC.IPv6Allowed == ver.VPC.IPv6Allowed &&
		sameImage(latest.Image, ver.Image) && latest.TenantIsolation == ver.TenantIsolation &&
		samePointed(latest.Durable, ver.Durable) && samePointed(latest.CapacityProvider, ver.CapacityProvider) &&
		latest.SigningProfileVersionARN == ver.SigningProfileVersionARN && latest.SigningJobARN == ver.SigningJobARN
}

func samePointed[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func sameImage(a, b *hearth.Image) bool {
	return a == b || a != nil && b != nil && a.Resolved == b.Resolved && a.WorkingDirectory == b.WorkingDirectory &&
		slices.Equal(a.EntryPoint, b.EntryPoint) && slices.Equal(a.Command, b.Command)
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
	case old.version(qualifier) == nil:
		return r.notFound(account, name, qualifier)
	}
	if names := old.pointing(qualifier); len(names) > 0 {
		return hearth.Errorf(hearth.Conflict, "Unable to delete version because the following aliases reference it: [%s]", strings.Join(names, ", "))
	}
	v := *old
	v.settings = without(v.settings, qualifier)
	if qualifier == hearth.LatestPublished {
		v.published = nil
	}
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
	if err := r.charge(k.account, grown); err != nil {
		return err
	}
	if err := r.write(ctx, k, old, new); err != nil {
		_ = r.charge(k.account, -grown) // what it had before is not too much
		return err
	}

	r.packages.refer(old, new)
	r.denials.Add(new.denials() - old.denials())
	r.setView(k, new)
	r.mu.Lock()
	if a := r.account(k.account); new == nil {
		a.remove(k.name)
	} else {
		a.add(k.name)
	}
	r.mu.Unlock()
	r.tell(old, new)
	r.tellSettings(k, old, new)
	r.tellConcurrency(k, old, new)
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
	for f := range v.publishedVersions {
		if f = v.activeVersion(f.Version); f != nil {
			m[f.Version] = f
		}
	}
	return m
}
