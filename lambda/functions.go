package lambda

import (
	"cmp"
	"context"
	"io"
	"iter"
	"maps"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/registry"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

// Registry keeps the functions. Its errors are what the caller is told. Safe
// for concurrent use.
type Registry interface {
	hearth.Functions
	Create(ctx context.Context, c registry.Create) (*hearth.Function, error)
	// Get is Resolve for tools: the newest configuration, also of a function
	// that is being made or changed.
	Get(ctx context.Context, account hearth.Account, name, qualifier string) (*hearth.Function, error)
	List(ctx context.Context, account hearth.Account, marker string, max int, allVersions bool) (fs []*hearth.Function, next string, err error)
	UpdateCode(ctx context.Context, account hearth.Account, name string, u registry.UpdateCode) (*hearth.Function, error)
	UpdateConfiguration(ctx context.Context, account hearth.Account, name string, u registry.UpdateConfiguration) (*hearth.Function, error)
	Delete(ctx context.Context, account hearth.Account, name, qualifier string) error
	Publish(ctx context.Context, account hearth.Account, name string, p registry.Publish) (*hearth.Function, error)
	Versions(ctx context.Context, account hearth.Account, name, marker string, max int) (fs []*hearth.Function, next string, err error)
	Tags(ctx context.Context, account hearth.Account, name string) (map[string]string, error)
	Tag(ctx context.Context, account hearth.Account, name string, tags map[string]string) error
	Untag(ctx context.Context, account hearth.Account, name string, keys []string) error
	Usage(ctx context.Context, account hearth.Account) (registry.Usage, error)
	OpenPackage(ctx context.Context, sha256 string) (io.ReadSeekCloser, int64, error)

	// Policy and Denies are those of frontend.Policies.
	Policy(account hearth.Account, name, qualifier string) *policy.Document
	Denies() bool

	PublishLayer(ctx context.Context, p registry.PublishLayer) (*registry.LayerVersion, error)
	LayerVersion(account hearth.Account, name string, version int) *registry.LayerVersion
	Layers(account hearth.Account, runtime, architecture, marker string, max int) (vs []*registry.LayerVersion, next string, err error)
	LayerVersions(account hearth.Account, name, runtime, architecture, marker string, max int) (vs []*registry.LayerVersion, next string, err error)
	DeleteLayerVersion(ctx context.Context, account hearth.Account, name string, version int) error
	ConfigureLayer(ctx context.Context, account hearth.Account, name string, version int, change func(*registry.Policy) (*registry.Policy, error)) (*registry.LayerVersion, error)

	CreateAlias(ctx context.Context, account hearth.Account, name, alias string, c registry.Alias) (*hearth.Alias, error)
	UpdateAlias(ctx context.Context, account hearth.Account, name, alias string, c registry.Alias) (*hearth.Alias, error)
	DeleteAlias(ctx context.Context, account hearth.Account, name, alias string) error
	Alias(ctx context.Context, account hearth.Account, name, alias string) (*hearth.Alias, error)
	Aliases(ctx context.Context, account hearth.Account, name, version, marker string, max int) (as []*hearth.Alias, next string, err error)

	// Settings and those below are what is configured beside code and
	// configuration, by qualifier.
	EverySettings() iter.Seq[registry.Configured]
	Settings(ctx context.Context, account hearth.Account, name, qualifier string) (*registry.Settings, error)
	AllSettings(ctx context.Context, account hearth.Account, name string) (map[string]*registry.Settings, error)
	Configure(ctx context.Context, account hearth.Account, name, qualifier string, change func(*registry.Settings) error) (*registry.Settings, error)

	// Reserve and those below are of an account's concurrency.
	Reserve(ctx context.Context, account hearth.Account, name string, n *int) error
	Provision(ctx context.Context, account hearth.Account, name, qualifier string, n int) (*registry.Provisioned, error)
	Unprovision(ctx context.Context, account hearth.Account, name, qualifier string) error
	Unreserved(account hearth.Account) int
	// PlacedOn yields what is placed on a capacity provider.
	PlacedOn(account hearth.Account, provider string) iter.Seq[*hearth.Function]
}

var _ Registry = (*registry.Registry)(nil)

var functionOperations = operationTable{
	"CreateFunction":              serve((*Handler).createFunction),
	"DeleteFunction":              serve((*Handler).deleteFunction),
	"GetFunction":                 serve((*Handler).getFunction),
	"GetFunctionConfiguration":    serve((*Handler).getFunctionConfiguration),
	"InvokeAsync":                 serve((*Handler).invokeAsync),
	"ListFunctions":               serve((*Handler).listFunctions),
	"ListVersionsByFunction":      serve((*Handler).listVersions),
	"PublishVersion":              serve((*Handler).publishVersion),
	"UpdateFunctionCode":          serve((*Handler).updateFunctionCode),
	"UpdateFunctionConfiguration": serve((*Handler).updateFunctionConfiguration),
}

// pageSize is how many functions or versions an answer holds at most, however
// many were asked for.
const pageSize = 50

func pageOf(asked *int32) int {
	if asked == nil {
		return pageSize
	}
	return min(int(*asked), pageSize)
}

// target reads a FunctionName that has passed its pattern, and the qualifier
// beside it, and sees that the caller may do the action with it.
func (h *Handler) target(c *call, name, qualifier *string, action string) (target, error) {
	t, ok := parseName(str(name))
	if !ok {
		// The pattern is somewhat wider than what names a function: in
		// partial ARNs without an account, for one.
		return t, hearth.Errorf(hearth.InvalidParameter, "%s is not the name or ARN of a function", str(name))
	}
	t, err := h.resolve(t, str(qualifier), c.claim.Identity)
	if err != nil {
		return t, err
	}
	return t, h.authorize(c, t, action)
}

func (h *Handler) createFunction(c *call, in *sdk.CreateFunctionInput) (smithy.Serializable, error) {
	t, err := h.target(c, in.FunctionName, nil, "CreateFunction")
	if err != nil {
		return nil, err
	}
	if t.qualifier != "" {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The function name of a new function must not have a qualifier: %s", str(in.FunctionName))
	}
	if in.CodeSigningConfigArn != nil && in.PackageType == types.PackageTypeImage {
		return nil, imagesAreNotSigned()
	}
	zip, release, err := h.codeOfCreate(c.ctx, in)
	if err != nil {
		return nil, err
	}
	defer release()
	if in.DurableConfig != nil && in.DurableConfig.ExecutionTimeout == nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "DurableConfig requires ExecutionTimeout.")
	}
	f := hearth.Function{
		Account:       t.account,
		Region:        h.region,
		Name:          t.name,
		Version:       hearth.Latest,
		MemoryMiB:     128,
		Timeout:       3 * time.Second,
		TmpMiB:        512,
		Architectures: []string{string(types.ArchitectureX8664)},
		PackageType:   string(cmp.Or(in.PackageType, types.PackageTypeZip)),
		TracingMode:   string(types.TracingModePassThrough),
		SnapStart:     string(types.SnapStartApplyOnNone),
		Logging:       hearth.Logging{Format: string(types.LogFormatText)},
	}
	if len(in.Architectures) > 0 {
		f.Architectures = []string{string(in.Architectures[0])}
	}
	if err := h.passRole(c, t, in.Role); err != nil {
		return nil, err
	}
	if in.TenancyConfig != nil {
		f.TenantIsolation = string(in.TenancyConfig.TenantIsolationMode)
	}
	if f.CapacityProvider, err = h.placement(c, in.CapacityProviderConfig); err != nil {
		return nil, err
	}
	if f.CapacityProvider != nil && f.TenantIsolation != "" {
		return nil, hearth.Errorf(hearth.InvalidParameter, "Tenant isolation is not supported for functions with a capacity provider.")
	}
	settings := settingsOfCreate(in)
	apply(settings, &f)
	f.Image = imageOf(in, settings)
	create := registry.Create{Function: f, Zip: zip, Publish: in.Publish, LatestPublished: in.PublishTo != "", Tags: in.Tags, Caller: c.claim.Identity, CodeSigningConfig: str(in.CodeSigningConfigArn)}
	var made *hearth.Function
	register := func() (err error) {
		made, err = h.Registry.Create(c.ctx, create)
		return err
	}
	if create.CodeSigningConfig != "" {
		err = h.SigningConfigs.Bind(t.account, create.CodeSigningConfig, register)
	} else {
		err = register()
	}
	if err != nil {
		return nil, err
	}
	return configurationOf(made, view{}), nil
}

func (h *Handler) getFunction(c *call, in *sdk.GetFunctionInput) (smithy.Serializable, error) {
	t, err := h.target(c, in.FunctionName, in.Qualifier, "GetFunction")
	if err != nil {
		return nil, err
	}
	f, err := h.Registry.Get(c.ctx, t.account, t.name, t.qualifier)
	if err != nil {
		return nil, err
	}
	tags, err := h.Registry.Tags(c.ctx, t.account, t.name)
	if err != nil {
		return nil, err
	}
	settings, err := h.Registry.Settings(c.ctx, t.account, t.name, "")
	if err != nil {
		return nil, err
	}
	out := &sdk.GetFunctionOutput{
		Concurrency:   concurrencyOf(settings),
		Configuration: h.readable(f, configurationOf(f, view{qualifier: t.qualifier, update: true})),
		Code:          h.locationOf(c, f),
	}
	if f.Shared != nil {
		out.Code = nil // it is another account's
	}
	if len(tags) > 0 {
		out.Tags = maps.Clone(tags)
	}
	return out, nil
}

func (h *Handler) getFunctionConfiguration(c *call, in *sdk.GetFunctionConfigurationInput) (smithy.Serializable, error) {
	t, err := h.target(c, in.FunctionName, in.Qualifier, "GetFunctionConfiguration")
	if err != nil {
		return nil, err
	}
	f, err := h.Registry.Get(c.ctx, t.account, t.name, t.qualifier)
	if err != nil {
		return nil, err
	}
	return h.readable(f, configurationOf(f, view{qualifier: t.qualifier, update: true})), nil
}

// readable hides the environment of a function whose key cannot be used, as
// the service does: with the reason in its place.
func (h *Handler) readable(f *hearth.Function, c *types.FunctionConfiguration) *types.FunctionConfiguration {
	if f.KMSKeyARN == "" || h.CheckKey == nil {
		return c
	}
	if err := h.CheckKey(f.KMSKeyARN); err != nil {
		e := asError(err)
		c.Environment = &types.EnvironmentResponse{Error: &types.EnvironmentError{ErrorCode: new(string(e.Kind)), Message: new(e.Message)}}
	}
	return c
}

func (h *Handler) listFunctions(c *call, in *sdk.ListFunctionsInput) (smithy.Serializable, error) {
	all := in.FunctionVersion == types.FunctionVersionAll
	fs, next, err := h.Registry.List(c.ctx, c.account(), str(in.Marker), pageOf(in.MaxItems), all)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListFunctionsOutput{Functions: listed(fs, all)}
	if next != "" {
		out.NextMarker = &next
	}
	return out, nil
}

func (h *Handler) deleteFunction(c *call, in *sdk.DeleteFunctionInput) (smithy.Serializable, error) {
	t, err := h.target(c, in.FunctionName, in.Qualifier, "DeleteFunction")
	if err != nil {
		return nil, err
	}
	if t.qualifier == hearth.Latest {
		return nil, hearth.Errorf(hearth.InvalidParameter, "$LATEST version cannot be deleted without deleting the function.")
	}
	if err := h.Registry.Delete(c.ctx, t.account, t.name, t.qualifier); err != nil {
		return nil, err
	}
	return &sdk.DeleteFunctionOutput{}, nil
}

func (h *Handler) updateFunctionCode(c *call, in *sdk.UpdateFunctionCodeInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "UpdateFunctionCode")
	if err != nil {
		return nil, err
	}
	zip, release, err := h.codeOfUpdate(c.ctx, t, in)
	if err != nil {
		return nil, err
	}
	defer release()
	u := registry.UpdateCode{Zip: zip, ImageURI: str(in.ImageUri), Publish: in.Publish, LatestPublished: in.PublishTo != "", DryRun: in.DryRun, RevisionID: str(in.RevisionId)}
	for _, a := range in.Architectures {
		u.Architectures = append(u.Architectures, string(a))
	}
	f, err := h.Registry.UpdateCode(c.ctx, t.account, t.name, u)
	if err != nil {
		return nil, err
	}
	v := view{update: true}
	if f.Version != hearth.Latest {
		v.qualifier = f.Version
	}
	return configurationOf(f, v), nil
}

func (h *Handler) updateFunctionConfiguration(c *call, in *sdk.UpdateFunctionConfigurationInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "UpdateFunctionConfiguration")
	if err != nil {
		return nil, err
	}
	if in.DurableConfig != nil {
		// Whether a function is durable never changes.
		f, err := h.Registry.Get(c.ctx, t.account, t.name, "")
		if err != nil {
			return nil, err
		}
		if f.Durable == nil {
			return nil, hearth.Errorf(hearth.InvalidParameter, "You cannot enable durable execution on an existing function. Set DurableConfig when creating the function.")
		}
	}
	if err := h.passRole(c, t, in.Role); err != nil {
		return nil, err
	}
	u := settingsOfUpdate(in)
	u.Caller = c.claim.Identity
	if u.CapacityProvider, err = h.placement(c, in.CapacityProviderConfig); err != nil {
		return nil, err
	}
	f, err := h.Registry.UpdateConfiguration(c.ctx, t.account, t.name, u)
	if err != nil {
		return nil, err
	}
	return configurationOf(f, view{update: true}), nil
}

// unqualified is target for operations that change a function, which is always
// its $LATEST.
func (h *Handler) unqualified(c *call, name *string, action string) (target, error) {
	t, err := h.target(c, name, nil, action)
	if err == nil && t.qualifier != "" && t.qualifier != hearth.Latest {
		err = hearth.Errorf(hearth.InvalidParameter,
			"This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN.")
	}
	return t, err
}

func (h *Handler) publishVersion(c *call, in *sdk.PublishVersionInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "PublishVersion")
	if err != nil {
		return nil, err
	}
	f, err := h.Registry.Publish(c.ctx, t.account, t.name, registry.Publish{
		Description: in.Description,
		CodeSHA256:  str(in.CodeSha256),
		RevisionID:  str(in.RevisionId),

		LatestPublished: in.PublishTo != "",
	})
	if err != nil {
		return nil, err
	}
	return configurationOf(f, view{qualifier: f.Version, update: true}), nil
}

func (h *Handler) listVersions(c *call, in *sdk.ListVersionsByFunctionInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "ListVersionsByFunction")
	if err != nil {
		return nil, err
	}
	fs, next, err := h.Registry.Versions(c.ctx, t.account, t.name, str(in.Marker), pageOf(in.MaxItems))
	if err != nil {
		return nil, err
	}
	out := &sdk.ListVersionsByFunctionOutput{Versions: listed(fs, true)}
	if next != "" {
		out.NextMarker = &next
	}
	return out, nil
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
