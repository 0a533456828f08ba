package lambda

import (
	"context"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// testImages finds every image, with a digest of its name's length.
type testImages struct{}

func (testImages) Resolve(_ context.Context, uri, _ string) (pinned, digest string, err error) {
	digest = strings.Repeat("a", 64)
	return uri + "@sha256:" + digest, digest, nil
}

func (testImages) Forget(string)          {}
func (testImages) Keep(func(string) bool) {}

func imageInput(name string) *sdk.CreateFunctionInput {
	in := createInput(name)
	in.PackageType, in.Code = types.PackageTypeImage, &types.FunctionCode{ImageUri: new("app:v1")}
	in.Runtime, in.Handler = "", nil
	return in
}

func provokeImages(p *provoker) {
	ctx := p.t.Context()
	if _, err := p.lambda.CreateFunction(ctx, imageInput("image")); err != nil {
		p.t.Fatal(err)
	}
	p.try(failed(p.lambda.UpdateFunctionCode(ctx, &sdk.UpdateFunctionCodeInput{FunctionName: new("image"), ZipFile: []byte("zip")})))
}

func TestAnImagesFunctionIsShownAsTheServiceDoes(t *testing.T) {
	w := newWorld(t)
	in := imageInput("image")
	in.ImageConfig = &types.ImageConfig{EntryPoint: []string{"/run"}, Command: []string{"a"}, WorkingDirectory: new("/w")}
	made, err := w.lambda.CreateFunction(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	digest := strings.Repeat("a", 64)
	c := made.ImageConfigResponse
	if *made.CodeSha256 != digest || made.Runtime != "" || made.Handler != nil || made.RuntimeVersionConfig != nil || c == nil ||
		c.ImageConfig.EntryPoint[0] != "/run" || c.ImageConfig.Command[0] != "a" || *c.ImageConfig.WorkingDirectory != "/w" {
		t.Errorf("made as %+v", made)
	}
	got, err := w.lambda.GetFunction(t.Context(), &sdk.GetFunctionInput{FunctionName: new("image")})
	if err != nil {
		t.Fatal(err)
	}
	if code := got.Code; *code.RepositoryType != "ECR" || *code.ImageUri != "app:v1" || *code.ResolvedImageUri != "app:v1@sha256:"+digest || code.Location != nil {
		t.Errorf("its code: %+v", got.Code)
	}
	cleared, err := w.lambda.UpdateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: new("image"), ImageConfig: &types.ImageConfig{}})
	if err != nil || cleared.ImageConfigResponse != nil {
		t.Errorf("after it was cleared: %+v, %v", cleared, err)
	}
	if got, err := w.lambda.GetFunction(t.Context(), &sdk.GetFunctionInput{FunctionName: new("image")}); err != nil || *got.Code.ImageUri != "app:v1" {
		t.Errorf("the image has gone: %+v, %v", got, err)
	}
}

func TestWhatImagesCannotHaveIsRefusedInTheServicesWords(t *testing.T) {
	w := newWorld(t)
	for want, edit := range map[string]func(*sdk.CreateFunctionInput){
		"Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image.": func(in *sdk.CreateFunctionInput) { in.Runtime = "nodejs20.x" },
		"Please provide ImageUri when creating a function with packageType Image.":                          func(in *sdk.CreateFunctionInput) { in.Code = &types.FunctionCode{ZipFile: []byte("zip")} },
		"Please do not provide other FunctionCode parameters when providing an ImageUri.":                   func(in *sdk.CreateFunctionInput) { in.Code.S3Bucket = new("bucket") },
		"Please don't provide ImageUri when creating a function with packageType Zip.":                      func(in *sdk.CreateFunctionInput) { in.PackageType = types.PackageTypeZip },
	} {
		in := imageInput("image")
		edit(in)
		if _, err := w.lambda.CreateFunction(t.Context(), in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	w.create("zip")
	_, err := w.lambda.UpdateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: new("zip"), ImageConfig: &types.ImageConfig{Command: []string{"x"}}})
	wantError(t, err, "InvalidParameterValueException", "Please don't provide ImageConfig when updating a function with packageType Zip.")
}
