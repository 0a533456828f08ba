package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// putTime bounds a Put.
const putTime = time.Minute

// ErrNowhere is the error of a Put without an endpoint.
var ErrNowhere = errors.New("no S3 endpoint is configured: start Hearth with --s3-endpoint (or HEARTH_S3_ENDPOINT) set")

// Put writes an object, and returns when the server has taken it whole, or when
// it is on the disk of the folder that stands for one. What was there under the
// key is replaced. Errors are sentences; none has a credential.
func (b *Bucket) Put(ctx context.Context, bucket, key, contentType string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, putTime)
	defer cancel()
	switch b.base.Scheme {
	case "":
		return ErrNowhere
	case "file":
		return b.create(bucket, key, body)
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	r, err := b.unsigned(ctx, http.MethodPut, bucket, key)
	if err != nil {
		return err
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("X-Amz-Content-Sha256", hash)
	if b.cfg.Credentials.HasKeys() {
		signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
		if err := signer.SignHTTP(ctx, b.cfg.Credentials, r, hash, "s3", b.cfg.Region, b.cfg.Clock.Now()); err != nil {
			return err
		}
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return fmt.Errorf("the S3 endpoint does not answer: %w", err)
	}
	defer answer.Body.Close() // only read
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	var e struct{ Code, Message string }
	// A document that can't be read is as none: the status says enough.
	_ = xml.NewDecoder(io.LimitReader(answer.Body, maxError)).Decode(&e)
	return fmt.Errorf("the S3 endpoint refuses s3://%s/%s: %s %s %s", bucket, key, answer.Status, e.Code, e.Message)
}

// create writes an object of a folder, whole or not at all. No link leads out
// of the bucket, which must be there.
func (b *Bucket) create(bucket, key string, body []byte) (err error) {
	if bucket == "." || bucket == ".." || strings.HasPrefix(key, "/") || path.Clean(key) != key {
		return fmt.Errorf("no file can have the name %s/%s", bucket, key)
	}
	top, err := os.OpenRoot(b.base.Path)
	if err != nil {
		return err
	}
	defer top.Close() // only a handle
	folder, err := top.OpenRoot(bucket)
	if err != nil {
		return fmt.Errorf("the bucket %s: %w", bucket, err)
	}
	defer folder.Close() // only a handle
	if err := folder.MkdirAll(path.Dir(key), 0o755); err != nil {
		return err
	}
	half := path.Join(path.Dir(key), "."+path.Base(key)+".part")
	f, err := folder.OpenFile(half, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = folder.Rename(half, key)
	}
	if err != nil {
		return errors.Join(err, folder.Remove(half))
	}
	dir, err := folder.Open(path.Dir(key))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
