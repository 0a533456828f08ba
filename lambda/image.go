package lambda

import (
	"context"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// What is different of functions that come as a container image.

func nothing() {}

// codeOfCreate gives a new function's archive; none if it comes as an image.
func (h *Handler) codeOfCreate(ctx context.Context, in *sdk.CreateFunctionInput) (zip []byte, release func(), err error) {
	s := source{in.Code.ZipFile, in.Code.S3Bucket, in.Code.S3Key, in.Code.S3ObjectVersion}
	switch {
	case in.PackageType == types.PackageTypeImage && in.Code.ImageUri == nil:
		return nil, nil, hearth.Errorf(hearth.InvalidParameter, "Please provide ImageUri when creating a function with packageType Image.")
	case in.PackageType == types.PackageTypeImage && !s.empty():
		return nil, nil, onlyImage()
	case in.PackageType == types.PackageTypeImage:
		return nil, nothing, nil
	case in.Code.ImageUri != nil:
		return nil, nil, hearth.Errorf(hearth.InvalidParameter, "Please don't provide ImageUri when creating a function with packageType Zip.")
	case in.ImageConfig != nil && (len(in.ImageConfig.Command) > 0 || len(in.ImageConfig.EntryPoint) > 0 || in.ImageConfig.WorkingDirectory != nil):
		return nil, nil, hearth.Errorf(hearth.InvalidParameter, "Please don't provide ImageConfig when creating a function with packageType Zip.")
	}
	return h.archive(ctx, s)
}

// codeOfUpdate is codeOfCreate for new code.
func (h *Handler) codeOfUpdate(ctx context.Context, t target, in *sdk.UpdateFunctionCodeInput) (zip []byte, release func(), err error) {
	s := source{in.ZipFile, in.S3Bucket, in.S3Key, in.S3ObjectVersion}
	f, err := h.Registry.Get(ctx, t.account, t.name, "")
	switch {
	case err != nil:
		return nil, nil, err
	case f.Image != nil && in.ImageUri == nil:
		return nil, nil, hearth.Errorf(hearth.InvalidParameter, "Please provide ImageUri when updating a function with packageType Image.")
	case f.Image == nil && in.ImageUri != nil:
		return nil, nil, hearth.Errorf(hearth.InvalidParameter, "Please don't provide ImageUri when updating a function with packageType Zip.")
	case f.Image != nil && !s.empty():
		return nil, nil, onlyImage()
	case f.Image != nil:
		return nil, nothing, nil
	}
	return h.archive(ctx, s)
}

func onlyImage() error {
	return hearth.Errorf(hearth.InvalidParameter, "Please do not provide other FunctionCode parameters when providing an ImageUri.")
}

// imageOf is the image that a new function comes as; nil if it comes as none.
func imageOf(in *sdk.CreateFunctionInput, s registry.UpdateConfiguration) *hearth.Image {
	if in.PackageType != types.PackageTypeImage {
		return nil
	}
	i := &hearth.Image{}
	if s.Image != nil {
		*i = *s.Image
	}
	i.URI = str(in.Code.ImageUri)
	return i
}

// imageConfigOf shows what a function overrides of its image's configuration.
func imageConfigOf(i *hearth.Image) *types.ImageConfigResponse {
	if i == nil || len(i.EntryPoint)+len(i.Command) == 0 && i.WorkingDirectory == "" {
		return nil
	}
	return &types.ImageConfigResponse{ImageConfig: &types.ImageConfig{
		EntryPoint: i.EntryPoint, Command: i.Command, WorkingDirectory: optional(i.WorkingDirectory),
	}}
}

// locationOf says where a function's code is.
func (h *Handler) locationOf(c *call, f *hearth.Function) *types.FunctionCodeLocation {
	if i := f.Image; i != nil {
		return &types.FunctionCodeLocation{RepositoryType: new("ECR"), ImageUri: new(i.URI), ResolvedImageUri: new(i.Resolved)}
	}
	return &types.FunctionCodeLocation{RepositoryType: new("S3"), Location: new(h.packageLocation(c.http, f.Package.SHA256))}
}
