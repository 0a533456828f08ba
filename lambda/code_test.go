package lambda

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	hearth "github.com/hearth-faas/hearth"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// store puts an object into S3.
func (w *world) store(bucket, key string, content []byte) {
	w.t.Helper()
	path := filepath.Join(w.buckets, bucket, key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func provokeS3(p *provoker) {
	p.store("here", "fn.zip", nil)
	for _, bucket := range []string{"here", "not-here"} {
		p.tryCreate(func(in *sdk.CreateFunctionInput) {
			in.Code = &types.FunctionCode{S3Bucket: new(bucket), S3Key: new("none.zip")}
		})
	}
}

func TestCodeComesFromS3WhereItWouldComeWithTheRequest(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	one, two := zipOf(t, map[string]string{"index.js": "one"}), zipOf(t, map[string]string{"index.js": "two, longer"})
	w.store("code", "a/one.zip", one)
	w.store("code", "two.zip", two)
	in := createInput("hello")
	in.Code = &types.FunctionCode{S3Bucket: new("code"), S3Key: new("a/one.zip")}
	made, err := w.lambda.CreateFunction(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	if made.CodeSize != int64(len(one)) {
		t.Errorf("of %d bytes it has %d", len(one), made.CodeSize)
	}
	updated, err := w.lambda.UpdateFunctionCode(ctx, &sdk.UpdateFunctionCodeInput{FunctionName: new("hello"), S3Bucket: new("code"), S3Key: new("two.zip")})
	if err != nil {
		t.Fatal(err)
	}
	if updated.CodeSize != int64(len(two)) || *updated.CodeSha256 == *made.CodeSha256 {
		t.Errorf("of %d bytes it has %d", len(two), updated.CodeSize)
	}
}

func TestALayersContentComesFromS3Too(t *testing.T) {
	w := newWorld(t)
	zip := zipOf(t, map[string]string{"lib/x": "one"})
	w.store("code", "layer.zip", zip)
	in := &sdk.PublishLayerVersionInput{LayerName: new("l"), Content: &types.LayerVersionContentInput{S3Bucket: new("code"), S3Key: new("layer.zip")}}
	made, err := w.lambda.PublishLayerVersion(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if made.Content.CodeSize != int64(len(zip)) {
		t.Errorf("of %d bytes it has %d", len(zip), made.Content.CodeSize)
	}
	in.Content = &types.LayerVersionContentInput{}
	if _, err := w.lambda.PublishLayerVersion(t.Context(), in); err == nil || !strings.Contains(err.Error(), "Please provide a source for") {
		t.Error(err)
	}
}

func TestSourcesOfCodeThatCannotBeAreRefused(t *testing.T) {
	w := newWorld(t)
	w.store("code", "empty.zip", nil)
	w.store("code", "no.zip", []byte("this is no zip"))
	for name, c := range map[string]struct {
		code types.FunctionCode
		want string
	}{
		"none":       {types.FunctionCode{}, "Please provide a source for function code."},
		"both":       {types.FunctionCode{ZipFile: []byte("x"), S3Bucket: new("code"), S3Key: new("no.zip")}, "Please do not provide other FunctionCode parameters when providing a ZipFile."},
		"no key":     {types.FunctionCode{S3Bucket: new("code")}, "Please provide both S3Bucket and S3Key as the source for function code."},
		"no bucket":  {types.FunctionCode{S3Key: new("no.zip")}, "Please provide both S3Bucket and S3Key as the source for function code."},
		"no zip":     {types.FunctionCode{S3Bucket: new("code"), S3Key: new("no.zip")}, "Could not unzip uploaded file. Please check your file, then try to upload again."},
		"empty":      {types.FunctionCode{S3Bucket: new("code"), S3Key: new("empty.zip")}, "Could not unzip uploaded file. Please check your file, then try to upload again."},
		"no version": {types.FunctionCode{S3Bucket: new("code"), S3Key: new("no.zip"), S3ObjectVersion: new("v1")}, "Error occurred while GetObject. S3 Error Code: NoSuchVersion. S3 Error Message: The specified version does not exist."},
	} {
		in := createInput("hello")
		in.Code = &c.code
		if _, err := w.lambda.CreateFunction(t.Context(), in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
	}
}

func TestWithoutS3TheRefusalSaysWhatToDo(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Objects = nil })
	in := createInput("hello")
	in.Code = &types.FunctionCode{S3Bucket: new("code"), S3Key: new("fn.zip")}
	_, err := w.lambda.CreateFunction(t.Context(), in)
	if err == nil || !strings.Contains(err.Error(), string(hearth.InvalidParameter)) || !strings.Contains(err.Error(), "send the code as ZipFile") {
		t.Error(err)
	}
}
