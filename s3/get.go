package s3

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// emptyHash is the SHA-256 of no body.
var emptyHash = hex.EncodeToString(sha256.New().Sum(nil))

// get asks the server for an object.
func (b *Bucket) get(ctx context.Context, bucket, key, version string, limit int64) (io.ReadCloser, error) {
	r, err := b.request(ctx, http.MethodGet, bucket, key, version)
	if err != nil {
		return nil, unavailable(err)
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return nil, unavailable(err)
	}
	if answer.StatusCode == http.StatusOK {
		if answer.ContentLength > limit {
			answer.Body.Close()
			return nil, tooLarge(limit)
		}
		return answer.Body, nil
	}
	defer answer.Body.Close() // only read
	return nil, explain(answer, bucket, key)
}

// unsigned makes a request about an object without its signature.
func (b *Bucket) unsigned(ctx context.Context, method, bucket, key string) (*http.Request, error) {
	u := *b.base
	path := "/" + key
	if b.cfg.PathStyle {
		path = "/" + bucket + path
	} else {
		u.Host = bucket + "." + u.Host
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	u.RawPath = escape(u.Path)
	r, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	r.URL = &u // as it is: a key may have empty and dotted parts
	return r, nil
}

// request makes the signed request of an operation that sends no body. S3 signs
// the path as it is sent, where other services escape it once more.
func (b *Bucket) request(ctx context.Context, method, bucket, key, version string) (*http.Request, error) {
	r, err := b.unsigned(ctx, method, bucket, key)
	if err != nil {
		return nil, err
	}
	if version != "" {
		r.URL.RawQuery = "versionId=" + strings.ReplaceAll(url.QueryEscape(version), "+", "%20")
	}
	return r, b.sign(r)
}

// escape writes a path as S3 wants it signed: all but unreserved characters
// and the slash in percent.
func escape(path string) string {
	const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/"
	var b strings.Builder
	for _, c := range []byte(path) {
		if strings.IndexByte(unreserved, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// maxError bounds what is read of an error's document.
const maxError = 64 << 10

// explain turns a refusal into the Lambda service's.
func explain(answer *http.Response, bucket, key string) error {
	var e struct{ Code, Message string }
	// A document that can't be read is as none: the status says enough.
	_ = xml.NewDecoder(io.LimitReader(answer.Body, maxError)).Decode(&e)
	switch answer.StatusCode {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect:
		if e.Code == "" {
			e.Code, e.Message = "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint."
		}
		if region := answer.Header.Get("X-Amz-Bucket-Region"); region != "" {
			e.Message = "The bucket is in this region: " + region + ". Please use this region to retry the request"
		}
	case http.StatusForbidden:
		e.Code = cmp.Or(e.Code, "AccessDenied")
		return denied(bucket, key, e.Code, cmp.Or(e.Message, messages[e.Code]))
	case http.StatusNotFound:
		e.Code = cmp.Or(e.Code, "NoSuchKey")
	}
	e.Message = cmp.Or(e.Message, messages[e.Code])
	if e.Code == "" || answer.StatusCode >= 500 {
		return unavailable(fmt.Errorf("%s: %s %s", answer.Status, e.Code, e.Message))
	}
	return refused(e.Code, e.Message)
}

// messages are S3's own, for servers that leave them out.
var messages = map[string]string{
	"NoSuchKey":     "The specified key does not exist.",
	"NoSuchBucket":  "The specified bucket does not exist",
	"NoSuchVersion": "The specified version does not exist.",
	"AccessDenied":  "Access Denied",
}
