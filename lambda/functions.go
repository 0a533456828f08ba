package lambda

import (
	"cmp"
	"context"
	"io"
	"maps"
	"time"

	hearth "github.com/hearth-faas/hearth"
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
}

var _ Registry = (*registry.Registry)(nil)

// built are the operations that Hearth has, by name; Invoke is served apart.
var built = map[string]func(*Handler, *call, any) (smithy.Serializable, error){
	"CreateFunction":               serve((*Handler).createFunction),
	"DeleteFunction":               serve((*Handler).deleteFunction),
	"GetAccountSettings":           serve((*Handler).getAccountSettings),
	"GetFunction":                  serve((*Handler).getFunction),
	"GetFunctionCodeSigningConfig": serve((*Handler).getFunctionCodeSigningConfig),
	"GetFunctionConfiguration":     serve((*Handler).getFunctionConfiguration),
	"ListFunctions":                serve((*Handler).listFunctions),
	"ListTags":                     serve((*Handler).listTags),
	"ListVersionsByFunction":       serve((*Handler).listVersions),
	"PublishVersion":               serve((*Handler).publishVersion),
	"TagResource":                  serve((*Handler).tagResource),
	"UntagResource":                serve((*Handler).untagResource),
	"UpdateFunctionCode":           serve((*Handler).updateFunctionCode),
	"UpdateFunctionConfiguration":  serve((*Handler).updateFunctionConfiguration),
}

// serve fits a typed operation into the table.
func serve[I any](f func(*Handler, *call, *I) (smithy.Serializable, error)) func(*Handler, *call, any) (smithy.Serializable, error) {
	return func(h *Handler, c *call, in any) (smithy.Serializable, error) { return f(h, c, in.(*I)) }
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
// beside it.
func (h *Handler) target(c *call, name, qualifier *string, action string) (target, error) {
	t, ok := parseName(str(name))
	if !ok {
		// The pattern is somewhat wider than what names a function: in
		// partial ARNs without an account, for one.
		return t, hearth.Errorf(hearth.InvalidParameter, "%s is not the name or ARN of a function", str(name))
	}
	return h.resolve(t, str(qualifier), c.claim.Identity, action)
}

func (h *Handler) createFunction(c *call, in *sdk.CreateFunctionInput) (smithy.Serializable, error) {
	t, err := h.target(c, in.FunctionName, nil, "CreateFunction")
	if err != nil {
		return nil, err
	}
	if t.qualifier != "" {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The function name of a new function must not have a qualifier: %s", str(in.FunctionName))
	}
	if err := createUnbuilt(in); err != nil {
		return nil, err
	}
	if len(in.Code.ZipFile) == 0 && in.PackageType != types.PackageTypeImage {
		return nil, noCode(in.Code.S3Bucket, in.Code.ImageUri)
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
	apply(settingsOfCreate(in), &f)
	made, err := h.Registry.Create(c.ctx, registry.Create{Function: f, Zip: in.Code.ZipFile, Publish: in.Publish, Tags: in.Tags})
	if err != nil {
		return nil, err
	}
	return configurationOf(made, view{}), nil
}

// createUnbuilt refuses the parts of CreateFunction that Hearth does not have.
func createUnbuilt(in *sdk.CreateFunctionInput) error {
	switch {
	case in.CapacityProviderConfig != nil:
		return notBuilt("CreateFunction with CapacityProviderConfig")
	case in.DurableConfig != nil:
		return notBuilt("CreateFunction with DurableConfig")
	case in.TenancyConfig != nil:
		return notBuilt("CreateFunction with TenancyConfig")
	case in.PublishTo != "":
		return notBuilt("CreateFunction with PublishTo")
	case in.CodeSigningConfigArn != nil:
		return hearth.Errorf(hearth.NotFound, "The Lambda code signing configuration %s can not be found.", *in.CodeSigningConfigArn)
	case in.ImageConfig != nil && (len(in.ImageConfig.Command) > 0 || len(in.ImageConfig.EntryPoint) > 0 || in.ImageConfig.WorkingDirectory != nil):
		return hearth.Errorf(hearth.InvalidParameter, "Please don't provide ImageConfig when creating a function with packageType Zip.")
	}
	return nil
}

// noCode says what is wrong with a request that brings no zip.
func noCode(bucket, image *string) error {
	switch {
	case image != nil:
		return hearth.Errorf(hearth.InvalidParameter, "Please don't provide ImageUri when updating a function with packageType Zip.")
	case bucket != nil:
		return notBuilt("Code from an S3 bucket (send it as ZipFile)")
	}
	return hearth.Errorf(hearth.InvalidParameter, "Please provide a source for function code.")
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
	out := &sdk.GetFunctionOutput{
		Configuration: configurationOf(f, view{qualifier: t.qualifier, update: true}),
		Code: &types.FunctionCodeLocation{
			RepositoryType: new("S3"),
			Location:       new(h.codeLocation(c.http, f)),
		},
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
	return configurationOf(f, view{qualifier: t.qualifier, update: true}), nil
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
	if in.PublishTo != "" {
		return nil, notBuilt("UpdateFunctionCode with PublishTo")
	}
	if len(in.ZipFile) == 0 {
		return nil, noCode(in.S3Bucket, in.ImageUri)
	}
	u := registry.UpdateCode{Zip: in.ZipFile, Publish: in.Publish, DryRun: in.DryRun, RevisionID: str(in.RevisionId)}
	for _, a := range in.Architectures {
		u.Architectures = append(u.Architectures, string(a))
	}
	f, err := h.Registry.UpdateCode(c.ctx, t.account, t.name, u)
	if err != nil {
		return nil, err
	}
	v := view{update: true}
	if in.Publish && f.Version != hearth.Latest {
		v.qualifier = f.Version
	}
	return configurationOf(f, v), nil
}

func (h *Handler) updateFunctionConfiguration(c *call, in *sdk.UpdateFunctionConfigurationInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "UpdateFunctionConfiguration")
	if err != nil {
		return nil, err
	}
	switch {
	case in.CapacityProviderConfig != nil:
		return nil, notBuilt("UpdateFunctionConfiguration with CapacityProviderConfig")
	case in.DurableConfig != nil:
		return nil, notBuilt("UpdateFunctionConfiguration with DurableConfig")
	}
	f, err := h.Registry.UpdateConfiguration(c.ctx, t.account, t.name, settingsOfUpdate(in))
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
	if in.PublishTo != "" {
		return nil, notBuilt("PublishVersion with PublishTo")
	}
	f, err := h.Registry.Publish(c.ctx, t.account, t.name, registry.Publish{
		Description: in.Description,
		CodeSHA256:  str(in.CodeSha256),
		RevisionID:  str(in.RevisionId),
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

// getFunctionCodeSigningConfig answers as for a function without code signing,
// which is every function here: Terraform reads it with each refresh.
func (h *Handler) getFunctionCodeSigningConfig(c *call, in *sdk.GetFunctionCodeSigningConfigInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "GetFunctionCodeSigningConfig")
	if err != nil {
		return nil, err
	}
	if _, err := h.Registry.Get(c.ctx, t.account, t.name, ""); err != nil {
		return nil, err
	}
	return &sdk.GetFunctionCodeSigningConfigOutput{}, nil
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
