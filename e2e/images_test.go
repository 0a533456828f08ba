package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// layerWith is a layer of executable files.
func layerWith(t testing.TB, files map[string]string) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o6755, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// imageWith is an image of layers.
func imageWith(t testing.TB, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err == nil {
		img, err = mutate.Config(img, config)
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// images drives functions that come as images.
type images struct {
	*server
	ctx context.Context
}

func (s *images) create(name, uri string, edit func(*lambda.CreateFunctionInput)) (*lambda.CreateFunctionOutput, error) {
	in := &lambda.CreateFunctionInput{
		FunctionName: &name, Role: aws.String("arn:aws:iam::000000000000:role/test"), PackageType: types.PackageTypeImage,
		Code: &types.FunctionCode{ImageUri: &uri}, MemorySize: aws.Int32(256), Timeout: aws.Int32(20),
	}
	if edit != nil {
		edit(in)
	}
	return s.client().CreateFunction(s.ctx, in)
}

func (s *images) mustCreate(name, uri string, edit func(*lambda.CreateFunctionInput)) {
	s.t.Helper()
	if _, err := s.create(name, uri, edit); err != nil {
		s.t.Fatal(err)
	}
	s.waitActive(name)
}

// layersOnDisk are the folders of unpacked layers, with when each was made.
func (s *images) layersOnDisk() map[string]time.Time {
	s.t.Helper()
	dirs, err := os.ReadDir(filepath.Join(s.dir, "images", "layers"))
	if err != nil {
		s.t.Fatal(err)
	}
	all := map[string]time.Time{}
	for _, d := range dirs {
		info, err := d.Info()
		if err != nil {
			s.t.Fatal(err)
		}
		all[d.Name()] = info.ModTime()
	}
	return all
}

func TestFunctionsComeAsImages(t *testing.T) {
	t.Parallel()
	goZip(t, "imaged")
	program, err := os.ReadFile(filepath.Join(scratch, "go-imaged"))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	push := func(tag string, img v1.Image) {
		t.Helper()
		ref, err := name.ParseReference(host + "/" + tag)
		if err == nil {
			err = remote.Write(ref, img)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	base := layerWith(t, map[string]string{"app/fn": string(program), "etc/hosts": "203.0.113.1 evil\n"})
	config := v1.Config{Entrypoint: []string{"fn"}, Env: []string{"PATH=/app", "OF=image", "OVER=image"}, WorkingDir: "/app", User: "root"}
	push("one:v1", imageWith(t, config, base, layerWith(t, map[string]string{"app/version": "1"})))
	push("one:v2", imageWith(t, config, base, layerWith(t, map[string]string{"app/version": "2"})))
	local := t.TempDir()
	l, err := layout.Write(filepath.Join(local, "layout"), empty.Index)
	if err == nil {
		err = l.AppendImage(imageWith(t, config, base, layerWith(t, map[string]string{"app/version": "local"})))
	}
	if err != nil {
		t.Fatal(err)
	}

	dir, err := os.MkdirTemp(scratch, "data-")
	if err != nil {
		t.Fatal(err)
	}
	s := &images{startIn(t, dir, "--image-paths", local), t.Context()}
	c := s.client()
	s.mustCreate("one", host+"/one:v1", func(in *lambda.CreateFunctionInput) {
		in.Environment = &types.Environment{Variables: map[string]string{"OVER": "function"}}
	})
	look := func(name, path string) string {
		t.Helper()
		event, err := json.Marshal(map[string]string{"read": path})
		if err != nil {
			t.Fatal(err)
		}
		return s.mustInvoke(name, string(event)).payload
	}
	told := func(name, path, want string) {
		t.Helper()
		if got := look(name, path); !strings.Contains(got, want) {
			t.Errorf("%s: %s is %s, not %s", name, path, got, want)
		}
	}
	told("one", "/app/version", `"content":"1"`)
	told("one", "version", `"content":"1"`) // from the working directory
	told("one", "/etc/hosts", "127.0.0.1 localhost")
	for _, want := range []string{`"OF":"image"`, `"OVER":"function"`, `"uid":993`, `"AWS_LAMBDA_FUNCTION_NAME":"one"`} {
		told("one", "/app/version", want)
	}
	for _, gone := range []string{"/usr/bin/env", "/bin/sh", "/etc/shadow", "/root", dir, "/var/task", "/proc/1/root/etc/passwd"} {
		told("one", gone, "no such file")
	}

	got, err := c.GetFunction(s.ctx, &lambda.GetFunctionInput{FunctionName: aws.String("one")})
	if err != nil {
		t.Fatal(err)
	}
	code, cfg := got.Code, got.Configuration
	if *code.RepositoryType != "ECR" || *code.ImageUri != host+"/one:v1" || *code.ResolvedImageUri != host+"/one@sha256:"+*cfg.CodeSha256 ||
		code.Location != nil || cfg.Runtime != "" || cfg.Handler != nil || cfg.PackageType != types.PackageTypeImage || cfg.CodeSize != 0 {
		t.Errorf("GetFunction: %+v, %+v", code, cfg)
	}

	before := s.layersOnDisk()
	s.mustCreate("local", "oci://"+local+"/layout", nil)
	told("local", "/app/version", `"content":"local"`)
	if _, err := c.UpdateFunctionCode(s.ctx, &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("one"), ImageUri: aws.String(host + "/one:v2")}); err != nil {
		t.Fatal(err)
	}
	s.waitActive("one")
	told("one", "/app/version", `"content":"2"`)
	after, shared := s.layersOnDisk(), 0
	for name, made := range before {
		if after[name].Equal(made) {
			shared++
		}
	}
	if shared == 0 || len(after) > 4 {
		t.Errorf("the layer that all have was unpacked again: %v, %v", before, after)
	}

	for _, over := range []struct {
		config types.ImageConfig
		want   string
	}{
		{types.ImageConfig{WorkingDirectory: aws.String("/nowhere")}, "Runtime.InvalidWorkingDir"},
		{types.ImageConfig{EntryPoint: []string{"/app/none"}}, "Runtime.InvalidEntrypoint"},
		{types.ImageConfig{EntryPoint: []string{"/app/fn"}, Command: []string{"with", "arguments"}, WorkingDirectory: aws.String("/")}, `"args":["with","arguments"]`},
	} {
		if _, err := c.UpdateFunctionConfiguration(s.ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("one"), ImageConfig: &over.config}); err != nil {
			t.Fatal(err)
		}
		s.waitActive("one")
		a, err := s.invoke("one", `{"read":"/app/version"}`)
		if err != nil || !strings.Contains(a.payload, over.want) {
			t.Errorf("%+v: %s, %v, not %s", over.config, a.payload, err, over.want)
		}
	}

	refused := func(err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	_, err = c.UpdateFunctionCode(s.ctx, &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("one"), ZipFile: []byte("zip")})
	refused(err, "InvalidParameterValueException: Please provide ImageUri when updating a function with packageType Image.")
	_, err = c.UpdateFunctionConfiguration(s.ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("one"), Handler: aws.String("x.y")})
	refused(err, "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image.")
	_, err = s.create("two", host+"/one:v9", nil)
	refused(err, "does not exist. Provide a valid source image.")
	_, err = s.create("two", "oci:///etc/x", nil)
	refused(err, "image-paths")
	_, err = s.create("two", host+"/one:v1", func(in *lambda.CreateFunctionInput) { in.Code.ZipFile = []byte("zip") })
	refused(err, "Please do not provide other FunctionCode parameters")

	// Without the registry, and after a crash, what is here still runs.
	srv.Close()
	s.kill9()
	s = &images{startIn(t, dir, "--image-paths", local), t.Context()}
	c = s.client()
	told("one", "/app/version", `"content":"2"`)
	_, err = s.create("three", host+"/one:v1", nil)
	refused(err, "does not answer")
	for _, name := range []string{"one", "local"} {
		if _, err := c.DeleteFunction(s.ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String(name)}); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(patience); len(s.layersOnDisk()) > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("layers that nothing needs are left: %v", s.layersOnDisk())
		}
	}
}
