package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	hearth "github.com/hearth-faas/hearth"
)

// Listed is an object of a listing.
type Listed struct {
	Key, ETag string
	Size      int64
	Modified  time.Time
}

// MaxList is how many objects a page of a listing has at most.
const MaxList = 1000

// listTime bounds one page of a listing, maxListing its size in bytes: 1000
// keys of 1024 bytes, each three times as long when it is escaped.
const (
	listTime   = time.Minute
	maxListing = 8 << 20
)

// ErrToken is the error of a List whose token the server does not take (any more).
var ErrToken = errors.New("the S3 server does not take the continuation token")

// errFolder is the error of what a folder that stands for a server can't do.
var errFolder = errors.New("the S3 endpoint is a folder of this machine: name the files by their paths instead, as in folder:///srv/data")

// List tells of the objects whose keys begin with prefix, at most most of them
// and at most MaxList: from the server's token on, or from those after a key, or
// if both are "" from the beginning. next is the token of the following page,
// "" after the last. Errors: ErrToken, AccessDenied, InvalidParameter (there is
// no such bucket, or no endpoint).
func (b *Bucket) List(ctx context.Context, bucket, prefix, token, after string, most int) (objects []Listed, next string, err error) {
	if err := b.remote(); err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	q := url.Values{"list-type": {"2"}, "encoding-type": {"url"}, "max-keys": {strconv.Itoa(min(most, MaxList))}}
	for name, value := range map[string]string{"prefix": prefix, "continuation-token": token, "start-after": after} {
		if value != "" {
			q.Set(name, value)
		}
	}
	r, err := b.unsigned(ctx, http.MethodGet, bucket, "")
	if err != nil {
		return nil, "", err
	}
	r.URL.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	if err := b.sign(r); err != nil {
		return nil, "", err
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return nil, "", fmt.Errorf("the S3 endpoint does not answer: %w", err)
	}
	defer answer.Body.Close() // only read
	if answer.StatusCode == http.StatusBadRequest && token != "" {
		return nil, "", ErrToken
	}
	if answer.StatusCode != http.StatusOK {
		return nil, "", notListed(answer, bucket)
	}
	document, err := io.ReadAll(io.LimitReader(answer.Body, maxListing))
	if err != nil {
		return nil, "", fmt.Errorf("the S3 server's listing ends early: %w", err)
	}
	return parseListing(document)
}

// notListed is the error of a listing that was refused.
func notListed(answer *http.Response, bucket string) error {
	var e struct{ Code, Message string }
	_ = xml.NewDecoder(io.LimitReader(answer.Body, maxError)).Decode(&e) // the status says enough
	kind := hearth.Service
	switch answer.StatusCode {
	case http.StatusForbidden:
		kind = hearth.AccessDenied
	case http.StatusNotFound, http.StatusBadRequest, http.StatusMovedPermanently:
		kind = hearth.InvalidParameter
	}
	return hearth.Errorf(kind, "The S3 server does not list the bucket %s: %s %s %s", bucket, answer.Status, e.Code, e.Message)
}

// Open reads an object from a byte on: the content whose ETag is tag, or any if
// that is "". It gives the ETag of what is read. Past the end there is nothing
// to read. Errors: ErrChanged, AccessDenied, InvalidParameter.
func (b *Bucket) Open(ctx context.Context, bucket, key, tag string, from int64) (_ io.ReadCloser, etag string, err error) {
	if err := b.remote(); err != nil {
		return nil, "", err
	}
	r, err := b.unsigned(ctx, http.MethodGet, bucket, key)
	if err != nil {
		return nil, "", err
	}
	if tag != "" {
		r.Header.Set("If-Match", tag)
	}
	if from > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	if err := b.sign(r); err != nil {
		return nil, "", err
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return nil, "", fmt.Errorf("the S3 endpoint does not answer: %w", err)
	}
	got := answer.Header.Get("Etag")
	switch {
	case answer.StatusCode == http.StatusPreconditionFailed || answer.StatusCode < 300 && tag != "" && got != tag:
		answer.Body.Close()
		return nil, "", ErrChanged
	case answer.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		answer.Body.Close()
		return http.NoBody, tag, nil
	case answer.StatusCode == http.StatusOK && from == 0, answer.StatusCode == http.StatusPartialContent:
		return answer.Body, got, nil
	}
	defer answer.Body.Close() // only read
	return nil, "", explain(answer, bucket, key)
}

// ErrChanged is the error of an Open of what has another content by now.
var ErrChanged = errors.New("the object has another content than when its reading began")

// remote tells why there is no server to ask.
func (b *Bucket) remote() error {
	switch b.base.Scheme {
	case "":
		return hearth.Errorf(hearth.InvalidParameter, "Hearth has been given no S3 endpoint: start it with s3-endpoint set (hearth up --s3-endpoint URL, or HEARTH_S3_ENDPOINT).")
	case "file":
		return hearth.Errorf(hearth.InvalidParameter, "%w.", errFolder)
	}
	return nil
}

// sign signs a request that has no body.
func (b *Bucket) sign(r *http.Request) error {
	r.Header.Set("X-Amz-Content-Sha256", emptyHash)
	if !b.cfg.Credentials.HasKeys() {
		return nil
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	return signer.SignHTTP(r.Context(), b.cfg.Credentials, r, emptyHash, "s3", b.cfg.Region, b.cfg.Clock.Now())
}
