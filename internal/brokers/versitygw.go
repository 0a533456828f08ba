package brokers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// VersityGW is a server of S3 whose buckets are folders. It keeps the versions
// of buckets that ask for it, and notifies Options.Notify of what happens to
// objects: once, whether it is heard or not. .ci/install builds it. Its user
// is access, secret unless another is chosen.
var VersityGW = Kind{name: "versitygw", commands: func(b *Broker) ([]command, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	var folders []string
	for _, name := range []string{"objects", "versions", "about"} {
		folder := filepath.Join(b.dir, name)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
		folders = append(folders, folder)
	}
	address, user := fmt.Sprintf("127.0.0.1:%d", b.port), b.S3User()
	args := []string{"--port", address, "--health", "/healthy", "--quiet"}
	if c := b.Options.TLS; c != nil {
		return nil, fmt.Errorf("TLS is not set up for it here")
	}
	if b.Options.Notify != "" {
		args = append(args, "--event-webhook-url", b.Options.Notify)
	}
	args = append(args, "posix", "--versioning-dir", folders[1], "--sidecar", folders[2], folders[0])
	return []command{{
		path: filepath.Join(cache, "hearth-tests", "versitygw-1.8.0"), args: args,
		env:     []string{"ROOT_ACCESS_KEY=" + user.AccessKeyID, "ROOT_SECRET_KEY=" + user.SecretAccessKey},
		answers: "http://" + address + "/healthy",
	}}, nil
}}

// S3User is who may do everything at a VersityGW.
func (b *Broker) S3User() aws.Credentials {
	if b.Options.User != "" {
		return aws.Credentials{AccessKeyID: b.Options.User, SecretAccessKey: b.Options.Password}
	}
	return aws.Credentials{AccessKeyID: "access", SecretAccessKey: "secret"}
}

// S3 sends a signed request to a VersityGW: about /BUCKET or /BUCKET/KEY, and a
// query if one is needed. It gives the answer's header; an answer that is no
// success is an error. Safe for concurrent use.
func (b *Broker) S3(ctx context.Context, method, about string, body []byte) (http.Header, error) {
	about, query, _ := strings.Cut(about, "?")
	u := "http://" + b.Addr + strings.NewReplacer("+", "%20", "%2F", "/").Replace(url.QueryEscape(about)) + "?" + query
	r, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	r.Header.Set("X-Amz-Content-Sha256", hash)
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(ctx, b.S3User(), r, hash, "s3", "us-east-1", time.Now()); err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, about, answer.Status, text)
	}
	return answer.Header, err
}
