package registry

import (
	"github.com/hearth-faas/hearth"
)

// maxLayers is how many layers a function may use.
const maxLayers = 5

// useLayers finds the layer versions that a function of the account is to
// use, of which asked has the ARNs; nil stays nil. Until unpin is called
// their packages stay, even if nothing refers to them. caller is who asks:
// another account's layer has to be open to them.
func (r *Registry) useLayers(account hearth.Account, caller hearth.Identity, asked []hearth.Layer) (found []hearth.Layer, unpin func(), err error) {
	if asked == nil {
		return nil, func() {}, nil
	}
	if len(asked) > maxLayers {
		return nil, nil, invalid("Cannot reference more than %d layers.", maxLayers)
	}
	if caller == (hearth.Identity{}) {
		caller.Account = account
	}
	var pins []func()
	unpin = func() {
		for _, unpin := range pins {
			unpin()
		}
	}
	found = make([]hearth.Layer, 0, len(asked))
	seen := map[string]string{}
	for _, l := range asked {
		v, err := r.useLayer(account, caller, l.ARN)
		if err == nil {
			if first := seen[v.LayerARN()]; first != "" {
				err = invalid("Two different versions of the same layer are not allowed to be referenced in the same function. %s and %s are versions of the same layer.", first, l.ARN)
			}
		}
		if err == nil {
			// A version that is still there after its package was pinned had
			// it then.
			pins = append(pins, r.packages.pin(v.SHA256))
			if r.LayerVersion(v.Account, v.Name, v.Version) == nil {
				err = noLayer(l.ARN)
			}
		}
		if err != nil {
			unpin()
			return nil, nil, err
		}
		seen[v.LayerARN()] = l.ARN
		found = append(found, hearth.Layer{ARN: v.ARN(), Package: v.Package()})
	}
	return found, unpin, nil
}

func noLayer(arn string) error { return invalid("Layer version %s does not exist.", arn) }

// useLayer finds one layer version. That one of another account does not
// exist is not for everybody to know.
func (r *Registry) useLayer(account hearth.Account, caller hearth.Identity, arn string) (*LayerVersion, error) {
	region, owner, name, version, ok := ParseLayerVersion(arn)
	switch {
	case ok && region != r.cfg.Region:
		return nil, invalid("Layers are not in the same region as the function. Layers are expected to be in region %s.", r.cfg.Region)
	case !ok:
		return nil, noLayer(arn)
	}
	v := r.LayerVersion(owner, name, version)
	switch {
	case v == nil && owner == account:
		return nil, noLayer(arn)
	case v == nil:
		return nil, layerUse(caller, arn, nil)
	}
	return v, v.UsableBy(caller)
}

// checkSize tells whether code and layers together are not too large.
func (r *Registry) checkSize(f *hearth.Function) error {
	if len(f.Layers) == 0 {
		return nil
	}
	layers := int64(0)
	for _, l := range f.Layers {
		layers += l.Package.Unpacked
	}
	switch limit := r.cfg.Limits.Unpacked; {
	case layers > limit:
		return invalid("Layers consume more than the available size of %d bytes", limit)
	case layers+f.Package.Unpacked > limit:
		return invalid("Function code combined with layers exceeds the maximum allowed size of %d bytes. The actual size is %d bytes.", limit, layers+f.Package.Unpacked)
	}
	return nil
}
