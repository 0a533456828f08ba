package registry

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/table"
)

// LayerVersion is a published version of a layer. Only its policy ever
// changes. The JSON names are those on disk. A *LayerVersion that was handed
// out is read-only.
type LayerVersion struct {
	Account       hearth.Account `json:"account"`
	Region        string         `json:"region"`
	Name          string         `json:"name"`
	Version       int            `json:"version"`
	SHA256        string         `json:"sha256"`
	Size          int64          `json:"size"`     // bytes of the archive
	Unpacked      int64          `json:"unpacked"` // bytes of the files in it
	Description   string         `json:"description,omitempty"`
	License       string         `json:"license,omitempty"`
	Runtimes      []string       `json:"runtimes,omitempty"`      // that it says it is for
	Architectures []string       `json:"architectures,omitempty"` // the same
	Created       time.Time      `json:"created"`
	Policy        *Policy        `json:"policy,omitempty"`
}

// LayerARN is the ARN of the layer, without the version.
func (v *LayerVersion) LayerARN() string {
	return "arn:aws:lambda:" + v.Region + ":" + string(v.Account) + ":layer:" + v.Name
}

// ARN is the ARN of the version.
func (v *LayerVersion) ARN() string { return v.LayerARN() + ":" + strconv.Itoa(v.Version) }

// Package is its archive.
func (v *LayerVersion) Package() hearth.Package {
	return hearth.Package{SHA256: v.SHA256, Size: v.Size, Unpacked: v.Unpacked}
}

// UsableBy tells whether the identity may get the version: one of its own
// account, or one that the version's policy allows it. Errors: AccessDenied.
func (v *LayerVersion) UsableBy(id hearth.Identity) error {
	if id.Account == v.Account {
		return nil
	}
	var doc *policy.Document
	if v.Policy != nil {
		doc = v.Policy.Document
	}
	return layerUse(id, v.ARN(), doc)
}

func layerUse(id hearth.Identity, arn string, doc *policy.Document) error {
	r := policy.Request{Principal: policy.PrincipalOf(id), Action: "lambda:GetLayerVersion", Resource: arn}
	if o, _ := doc.Evaluate(&r); o != policy.Allowed {
		return policy.Denial(&r, o)
	}
	return nil
}

// fits tells whether the version says that it is for the runtime and the
// architecture; "" is any.
func (v *LayerVersion) fits(runtime, architecture string) bool {
	return (runtime == "" || slices.Contains(v.Runtimes, runtime)) &&
		(architecture == "" || slices.Contains(v.Architectures, architecture))
}

// The records of layers.
const (
	layersBucket        = "layers"        // account/name        → layerNumbers
	layerVersionsBucket = "layerVersions" // account/name/number → LayerVersion
)

// layerNumbers is a layer apart from its versions. It stays when they are all
// deleted, so that no number is used twice.
type layerNumbers struct {
	Next int `json:"next"` // the number of the next version
}

// layers are the published layers. A version is pinned to its package by a
// reference of its own.
type layers struct {
	locks    keyLocks
	numbers  *table.Table[layerNumbers]
	versions *table.Table[LayerVersion]
}

// openLayers reads the layers, and takes the references to their packages.
func (r *Registry) openLayers(ctx context.Context, s store.Store) (err error) {
	if r.layers.numbers, err = table.Open[layerNumbers](ctx, s, layersBucket); err != nil {
		return err
	}
	if r.layers.versions, err = table.Open[LayerVersion](ctx, s, layerVersionsBucket); err != nil {
		return err
	}
	for at, v := range r.layers.versions.Scan("", "") {
		if (key{v.Account, v.Name}).versionKey(v.Version) != at || v.SHA256 == "" {
			return fmt.Errorf("the record of layer version %s is that of %s", at, v.ARN())
		}
		r.packages.hold(v.SHA256)
		r.account(v.Account).code += v.Size
	}
	return nil
}

// PublishLayer asks for a new version of a layer.
type PublishLayer struct {
	Account       hearth.Account
	Name          string
	Description   string
	License       string
	Runtimes      []string
	Architectures []string
	Zip           []byte
}

// PublishLayer makes a version of a layer and, with the first, the layer. It
// returns when that is on disk. Errors: InvalidParameter and EntityTooLarge
// for the archive, CodeStorageExceeded.
func (r *Registry) PublishLayer(ctx context.Context, p PublishLayer) (*LayerVersion, error) {
	v := &LayerVersion{
		Account: p.Account, Region: r.cfg.Region, Name: p.Name, Description: p.Description, License: p.License,
		Runtimes: clone(p.Runtimes), Architectures: clone(p.Architectures), Created: r.cfg.Clock.Now().UTC().Round(0),
	}
	pkg, unpin, err := r.take(ctx, v, p.Zip)
	if err != nil {
		return nil, err
	}
	defer unpin()
	v.SHA256, v.Size, v.Unpacked = pkg.SHA256, pkg.Size, pkg.Unpacked

	k := key{p.Account, p.Name}
	defer r.layers.locks.lock(k)()
	if err := r.charge(k.account, v.Size); err != nil {
		return nil, err
	}
	if err := r.addLayer(ctx, k, v); err != nil {
		_ = r.charge(k.account, -v.Size) // less is never too much
		return nil, internal("PublishLayer", v, err)
	}
	return v, nil
}

// addLayer numbers v and stores it. A number that was taken when the store
// failed is left out, as one whose version was deleted.
func (r *Registry) addLayer(ctx context.Context, k key, v *LayerVersion) error {
	_, err := r.layers.numbers.Change(ctx, k.record(), func(old *layerNumbers) (*layerNumbers, error) {
		v.Version = 1
		if old != nil {
			v.Version = old.Next
		}
		return &layerNumbers{v.Version + 1}, nil
	})
	if err != nil {
		return err
	}
	_, err = r.layers.versions.Change(ctx, k.versionKey(v.Version), func(*LayerVersion) (*LayerVersion, error) { return v, nil })
	if err == nil {
		r.packages.hold(v.SHA256)
	}
	return err
}

// LayerVersion returns a version of a layer, or nil.
func (r *Registry) LayerVersion(account hearth.Account, name string, version int) *LayerVersion {
	return r.layers.versions.Get(key{account, name}.versionKey(version))
}

// DeleteLayerVersion removes a version; that there is none is no error.
// Functions that use it keep its package. Its number is not used again.
func (r *Registry) DeleteLayerVersion(ctx context.Context, account hearth.Account, name string, version int) error {
	k := key{account, name}
	defer r.layers.locks.lock(k)()
	v := r.LayerVersion(account, name, version)
	if v == nil {
		return nil
	}
	_, err := r.layers.versions.Change(ctx, k.versionKey(version), func(*LayerVersion) (*LayerVersion, error) { return nil, nil })
	if err != nil {
		return internal("DeleteLayerVersion", v, err)
	}
	r.packages.letGo(v.SHA256)
	return r.charge(account, -v.Size)
}

// ConfigureLayer changes the policy of a layer version: change is given what
// it is, nil for none, and returns what it shall be; neither may be altered
// afterwards. Errors: those of change, and ResourceNotFound.
func (r *Registry) ConfigureLayer(ctx context.Context, account hearth.Account, name string, version int, change func(*Policy) (*Policy, error)) (*LayerVersion, error) {
	k := key{account, name}
	defer r.layers.locks.lock(k)()
	v, err := r.layers.versions.Change(ctx, k.versionKey(version), func(old *LayerVersion) (*LayerVersion, error) {
		if old == nil {
			missing := LayerVersion{Account: account, Region: r.cfg.Region, Name: name, Version: version}
			return nil, hearth.Errorf(hearth.NotFound, "Layer version %s does not exist.", missing.ARN())
		}
		p, err := change(old.Policy)
		if err != nil {
			return nil, err
		}
		v := *old
		v.Policy = p
		return &v, nil
	})
	if err != nil {
		return nil, internal("ConfigureLayer", &LayerVersion{Account: account, Region: r.cfg.Region, Name: name, Version: version}, err)
	}
	return v, nil
}

// versionsOf are the versions of a layer that fit, in the order of their
// numbers.
func (r *Registry) versionsOf(k key, runtime, architecture string) (vs []*LayerVersion) {
	for _, v := range r.layers.versions.Scan(k.record()+"/", "") {
		if v.fits(runtime, architecture) {
			vs = append(vs, v)
		}
	}
	return vs
}

// Layers returns the newest version that fits the runtime and architecture
// ("" is any) of each of the account's layers that has one, in the order of
// their names, by pages as List does.
func (r *Registry) Layers(account hearth.Account, runtime, architecture, marker string, max int) (vs []*LayerVersion, next string, err error) {
	after, _, err := readMarker(marker)
	if err != nil {
		return nil, "", err
	}
	max = page(max)
	prefix := string(account) + "/"
	if after != "" {
		after = prefix + after
	}
	for at := range r.layers.numbers.Scan(prefix, after) {
		fitting := r.versionsOf(key{account, at[len(prefix):]}, runtime, architecture)
		if len(fitting) == 0 {
			continue
		}
		if len(vs) == max {
			return vs, marked(vs[max-1].Name, 0), nil
		}
		vs = append(vs, fitting[len(fitting)-1])
	}
	return vs, "", nil
}

// LayerVersions returns the versions of a layer that fit the runtime and
// architecture ("" is any), the newest first, by pages as List does. A layer
// that does not exist has none.
func (r *Registry) LayerVersions(account hearth.Account, name, runtime, architecture, marker string, max int) (vs []*LayerVersion, next string, err error) {
	of, before, err := readMarker(marker)
	if err == nil && marker != "" && of != name {
		err = badMarker()
	}
	if err != nil {
		return nil, "", err
	}
	vs = r.versionsOf(key{account, name}, runtime, architecture)
	slices.SortFunc(vs, func(a, b *LayerVersion) int { return cmp.Compare(b.Version, a.Version) })
	if marker != "" {
		vs = slices.DeleteFunc(vs, func(v *LayerVersion) bool { return v.Version >= before })
	}
	if max = page(max); len(vs) > max {
		vs = vs[:max]
		next = marked(name, vs[max-1].Version)
	}
	return vs, next, nil
}

// ParseLayerVersion takes apart the ARN of a layer version.
func ParseLayerVersion(arn string) (region string, account hearth.Account, name string, version int, ok bool) {
	parts := strings.Split(arn, ":")
	if len(parts) != 8 || parts[0] != "arn" || parts[2] != "lambda" || parts[5] != "layer" || parts[6] == "" {
		return "", "", "", 0, false
	}
	version = number(parts[7])
	return parts[3], hearth.Account(parts[4]), parts[6], version, version > 0
}
