package server_test

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"crypto/sha256"
	"encoding/hex"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/server"
)

// build compiles a program of this module, static and small.
func build(tb testing.TB, pkg string) []byte {
	tb.Helper()
	out := filepath.Join(tb.TempDir(), "program")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-tags", "lambda.norpc", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build %s: %v\n%s", pkg, err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// BenchmarkWarmInvoke is the whole way of a warm invocation through a server
// in this process: for profiles. make bench compares with the floor.
func BenchmarkWarmInvoke(b *testing.B) {
	cfg := server.DefaultConfig()
	cfg.Listen, cfg.DataDir, cfg.LogLevel = "127.0.0.1:0", b.TempDir(), "warn"
	cfg.SandboxProgram = build(b, "../cmd/hearth-sandbox")
	if err := os.Chmod(cfg.DataDir, 0o755); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s, err := server.New(ctx, cfg)
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}()
	<-s.Ready()
	root, err := identity.ReadRoot(cfg.DataDir)
	if err != nil {
		b.Fatal(err)
	}
	url := "http://" + s.Addr().String()
	creds := credentials.NewStaticCredentialsProvider(root.AccessKeyID, root.SecretAccessKey.Reveal(), "")
	client := lambda.New(lambda.Options{BaseEndpoint: &url, Region: root.Region, Credentials: creds})
	var z bytes.Buffer
	zw := zip.NewWriter(&z)
	h := &zip.FileHeader{Name: "bootstrap"}
	h.SetMode(0o755)
	w, err := zw.CreateHeader(h)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := w.Write(build(b, "../e2e/testdata/echo")); err != nil {
		b.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		b.Fatal(err)
	}
	deploy(b, client, z.Bytes())

	payload := bytes.Repeat([]byte("1"), 1024)
	sum := sha256.Sum256(payload)
	req, err := http.NewRequest(http.MethodPost, url+"/2015-03-31/functions/warm/invocations", nil)
	if err != nil {
		b.Fatal(err)
	}
	req.ContentLength = int64(len(payload))
	c, err := creds.Retrieve(ctx)
	if err != nil {
		b.Fatal(err)
	}
	if err := v4.NewSigner().SignHTTP(ctx, c, req, hex.EncodeToString(sum[:]), "lambda", root.Region, time.Now()); err != nil {
		b.Fatal(err)
	}
	invoke := func() {
		r := *req
		r.Body = io.NopCloser(bytes.NewReader(payload))
		resp, err := http.DefaultClient.Do(&r)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || len(body) != len(payload) {
			b.Fatalf("%s, %d bytes, %v", resp.Status, len(body), err)
		}
	}
	invoke()
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			invoke()
		}
	})
	b.Run("many", func(b *testing.B) {
		http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				invoke()
			}
		})
	})
}

func deploy(b *testing.B, client *lambda.Client, code []byte) {
	b.Helper()
	ctx := context.Background()
	_, err := client.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: aws.String("warm"), Runtime: "provided.al2023", Handler: aws.String("bootstrap"), MemorySize: aws.Int32(1769),
		Role: aws.String("arn:aws:iam::000000000000:role/r"), Code: &types.FunctionCode{ZipFile: code},
	})
	if err != nil {
		b.Fatal(err)
	}
	err = lambda.NewFunctionActiveV2Waiter(client).Wait(ctx, &lambda.GetFunctionInput{FunctionName: aws.String("warm")}, time.Minute)
	if err != nil {
		b.Fatal(err)
	}
}
