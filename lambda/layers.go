package lambda

import (
	"strconv"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/registry"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

// layerOperations are those of layers.
var layerOperations = operationTable{
	"AddLayerVersionPermission":    serve((*Handler).addLayerVersionPermission),
	"DeleteLayerVersion":           serve((*Handler).deleteLayerVersion),
	"GetLayerVersion":              serve((*Handler).getLayerVersion),
	"GetLayerVersionByArn":         serve((*Handler).getLayerVersionByArn),
	"GetLayerVersionPolicy":        serve((*Handler).getLayerVersionPolicy),
	"ListLayers":                   serve((*Handler).listLayers),
	"ListLayerVersions":            serve((*Handler).listLayerVersions),
	"PublishLayerVersion":          serve((*Handler).publishLayerVersion),
	"RemoveLayerVersionPermission": serve((*Handler).removeLayerVersionPermission),
}

// layer is what a LayerName names.
type layer struct {
	account hearth.Account
	name    string
}

func (h *Handler) layerARN(l layer, version int64) string {
	arn := "arn:aws:lambda:" + h.region + ":" + string(l.account) + ":layer:" + l.name
	if version > 0 {
		arn += ":" + strconv.FormatInt(version, 10)
	}
	return arn
}

// layer reads a LayerName that has passed its pattern: a name or a layer's
// ARN.
func (h *Handler) layer(c *call, name *string) (layer, error) {
	parts := strings.Split(str(name), ":")
	if len(parts) < 7 {
		return layer{c.account(), str(name)}, nil
	}
	if parts[3] != h.region {
		return layer{}, noResource()
	}
	return layer{hearth.Account(parts[4]), parts[6]}, nil
}

// ownLayer is layer for an action that no policy can allow to others. version
// is 0 for the layer as a whole.
func (h *Handler) ownLayer(c *call, name *string, version int64, action string) (layer, error) {
	l, err := h.layer(c, name)
	if err == nil && l.account != c.account() {
		err = h.layerDenial(c, l, version, action)
	}
	return l, err
}

func (h *Handler) layerDenial(c *call, l layer, version int64, action string) error {
	r := policy.Request{Principal: policy.PrincipalOf(c.claim.Identity), Action: "lambda:" + action, Resource: h.layerARN(l, version)}
	return policy.Denial(&r, policy.ImplicitDeny)
}

// layerVersion finds a version of a layer that the caller may see.
func (h *Handler) layerVersion(c *call, l layer, version int64) (*registry.LayerVersion, error) {
	if version < 1 {
		return nil, badLayerVersion()
	}
	v := h.Registry.LayerVersion(l.account, l.name, int(version))
	switch {
	case v == nil && l.account != c.account():
		return nil, h.layerDenial(c, l, version, "GetLayerVersion")
	case v == nil:
		return nil, noResource()
	}
	return v, v.UsableBy(c.claim.Identity)
}

func badLayerVersion() error {
	return hearth.Errorf(hearth.InvalidParameter, "Layer Version Cannot be less than 1")
}

func (h *Handler) publishLayerVersion(c *call, in *sdk.PublishLayerVersionInput) (smithy.Serializable, error) {
	l, err := h.ownLayer(c, in.LayerName, 0, "PublishLayerVersion")
	if err != nil {
		return nil, err
	}
	zip, release, err := h.archive(c.ctx, source{in.Content.ZipFile, in.Content.S3Bucket, in.Content.S3Key, in.Content.S3ObjectVersion})
	if err != nil {
		return nil, err
	}
	defer release()
	p := registry.PublishLayer{
		Account: l.account, Name: l.name, Zip: zip, Description: str(in.Description), License: str(in.LicenseInfo),
	}
	for _, r := range in.CompatibleRuntimes {
		p.Runtimes = append(p.Runtimes, string(r))
	}
	for _, a := range in.CompatibleArchitectures {
		p.Architectures = append(p.Architectures, string(a))
	}
	v, err := h.Registry.PublishLayer(c.ctx, p)
	if err != nil {
		return nil, err
	}
	out := sdk.PublishLayerVersionOutput(*h.layerOf(c, v))
	return &out, nil
}

const layerTime = "2006-01-02T15:04:05.000+0000"

// layerOf is a layer version as the API shows it. The outputs of three
// operations have the same members.
func (h *Handler) layerOf(c *call, v *registry.LayerVersion) *sdk.GetLayerVersionOutput {
	item := layerItem(v)
	return &sdk.GetLayerVersionOutput{
		LayerArn:                new(v.LayerARN()),
		LayerVersionArn:         item.LayerVersionArn,
		Version:                 item.Version,
		Description:             item.Description,
		CreatedDate:             item.CreatedDate,
		LicenseInfo:             item.LicenseInfo,
		CompatibleRuntimes:      item.CompatibleRuntimes,
		CompatibleArchitectures: item.CompatibleArchitectures,
		Content: &types.LayerVersionContentOutput{
			CodeSha256: new(codeSHA256(v.SHA256)), CodeSize: v.Size, Location: new(h.packageLocation(c.http, v.SHA256)),
		},
	}
}

func layerItem(v *registry.LayerVersion) *types.LayerVersionsListItem {
	item := &types.LayerVersionsListItem{
		LayerVersionArn: new(v.ARN()),
		Version:         int64(v.Version),
		Description:     new(v.Description),
		CreatedDate:     new(v.Created.Format(layerTime)),
		LicenseInfo:     optional(v.License),
	}
	for _, r := range v.Runtimes {
		item.CompatibleRuntimes = append(item.CompatibleRuntimes, types.Runtime(r))
	}
	for _, a := range v.Architectures {
		item.CompatibleArchitectures = append(item.CompatibleArchitectures, types.Architecture(a))
	}
	return item
}

func (h *Handler) getLayerVersion(c *call, in *sdk.GetLayerVersionInput) (smithy.Serializable, error) {
	l, err := h.layer(c, in.LayerName)
	if err != nil {
		return nil, err
	}
	v, err := h.layerVersion(c, l, *in.VersionNumber)
	if err != nil {
		return nil, err
	}
	return h.layerOf(c, v), nil
}

func (h *Handler) getLayerVersionByArn(c *call, in *sdk.GetLayerVersionByArnInput) (smithy.Serializable, error) {
	region, account, name, version, ok := registry.ParseLayerVersion(str(in.Arn))
	if !ok || region != h.region {
		return nil, noResource()
	}
	v, err := h.layerVersion(c, layer{account, name}, int64(version))
	if err != nil {
		return nil, err
	}
	out := sdk.GetLayerVersionByArnOutput(*h.layerOf(c, v))
	return &out, nil
}

func (h *Handler) listLayers(c *call, in *sdk.ListLayersInput) (smithy.Serializable, error) {
	vs, next, err := h.Registry.Layers(c.account(), string(in.CompatibleRuntime), string(in.CompatibleArchitecture), str(in.Marker), pageOf(in.MaxItems))
	if err != nil {
		return nil, err
	}
	out := &sdk.ListLayersOutput{Layers: make([]types.LayersListItem, len(vs)), NextMarker: optional(next)}
	for i, v := range vs {
		out.Layers[i] = types.LayersListItem{LayerName: new(v.Name), LayerArn: new(v.LayerARN()), LatestMatchingVersion: layerItem(v)}
	}
	return out, nil
}

func (h *Handler) listLayerVersions(c *call, in *sdk.ListLayerVersionsInput) (smithy.Serializable, error) {
	l, err := h.ownLayer(c, in.LayerName, 0, "ListLayerVersions")
	if err != nil {
		return nil, err
	}
	vs, next, err := h.Registry.LayerVersions(l.account, l.name, string(in.CompatibleRuntime), string(in.CompatibleArchitecture), str(in.Marker), pageOf(in.MaxItems))
	if err != nil {
		return nil, err
	}
	out := &sdk.ListLayerVersionsOutput{LayerVersions: make([]types.LayerVersionsListItem, len(vs)), NextMarker: optional(next)}
	for i, v := range vs {
		out.LayerVersions[i] = *layerItem(v)
	}
	return out, nil
}

func (h *Handler) deleteLayerVersion(c *call, in *sdk.DeleteLayerVersionInput) (smithy.Serializable, error) {
	l, err := h.ownLayer(c, in.LayerName, *in.VersionNumber, "DeleteLayerVersion")
	if err != nil {
		return nil, err
	}
	if *in.VersionNumber < 1 {
		return nil, badLayerVersion()
	}
	if err := h.Registry.DeleteLayerVersion(c.ctx, l.account, l.name, int(*in.VersionNumber)); err != nil {
		return nil, err
	}
	return &sdk.DeleteLayerVersionOutput{}, nil
}
