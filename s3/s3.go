// Package s3 fetches objects, and puts small ones: from and to any server that
// speaks S3, or a folder whose folders are the buckets. It knows four
// operations, GetObject, HeadObject, PutObject and (of a server) ListObjectsV2;
// the SDK's package for the service would cost the binary ten megabytes for
// them, while signing is in the SDK's core.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	hearth "github.com/hearth-faas/hearth"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Config says where objects are.
type Config struct {
	// Endpoint is http://HOST:PORT, https://HOST or file:///FOLDER; "" is
	// nowhere, and then every fetch says which setting is missing.
	Endpoint string
	Region   string // that requests are signed for
	// PathStyle puts the bucket into the path rather than before the host.
	PathStyle bool
	// Credentials sign the requests; without any, requests are unsigned. They
	// are never logged.
	Credentials aws.Credentials
	// TempDir is where an object lies while it is looked at; "" is the
	// system's.
	TempDir string
	Clock   hearth.Clock
	// Dial, if it is set, makes the connections.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Bucket fetches objects. Safe for concurrent use.
type Bucket struct {
	cfg    Config
	base   *url.URL
	client *http.Client
}

// New makes a Bucket; nothing is asked yet.
func New(cfg Config) (*Bucket, error) {
	if err := CheckEndpoint(cfg.Endpoint); err != nil {
		return nil, err
	}
	base, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	dial, proxy := cfg.Dial, (func(*http.Request) (*url.URL, error))(nil)
	if dial == nil {
		dial, proxy = (&net.Dialer{Timeout: 10 * time.Second}).DialContext, http.ProxyFromEnvironment
	}
	return &Bucket{cfg: cfg, base: base, client: &http.Client{
		Transport: &http.Transport{
			Proxy:                 proxy,
			DialContext:           dial,
			MaxIdleConnsPerHost:   16,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 30 * time.Second,
			IdleConnTimeout:       time.Minute,
			DisableCompression:    true, // the object as it is
		},
		// A signature holds for one host: a redirect is an answer.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// CheckEndpoint says what is wrong with an endpoint; nil for "".
func CheckEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return fmt.Errorf("%q is no URL", endpoint)
	}
	switch {
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q has more than a scheme, a host and a path", u.Redacted())
	case u.Scheme == "file" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return nil
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		return nil
	}
	return fmt.Errorf("%q is none of http://HOST:PORT, https://HOST and file:///FOLDER", endpoint)
}

// fetchTime bounds a fetch.
const fetchTime = 10 * time.Minute

// Fetch gives an object's bytes, at most limit of them, until release is
// called. They are those of a file that has lost its name, mapped into memory:
// the kernel can put them away, so that what they take is not the server's.
// version is "" for the newest. Errors are in the words of the Lambda service.
func (b *Bucket) Fetch(ctx context.Context, bucket, key, version string, limit int64) (object []byte, release func(), err error) {
	if b.base.Scheme == "" {
		return nil, nil, hearth.Errorf(hearth.InvalidParameter,
			"Hearth has been given no S3 endpoint to take %s/%s from: start it with s3-endpoint set (hearth up --s3-endpoint URL, or HEARTH_S3_ENDPOINT), or send the code as ZipFile.", bucket, key)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	var body io.ReadCloser
	if b.base.Scheme == "file" {
		body, err = b.open(bucket, key, version)
	} else {
		body, err = b.get(ctx, bucket, key, version, limit)
	}
	if err != nil {
		return nil, nil, err
	}
	defer body.Close() // only read
	return b.keep(body, limit)
}

// keep takes a body into a nameless file and maps it.
func (b *Bucket) keep(body io.Reader, limit int64) (_ []byte, release func(), err error) {
	f, err := os.CreateTemp(b.cfg.TempDir, ".object-")
	if err != nil {
		return nil, nil, unavailable(err)
	}
	defer f.Close() // the mapping outlives it
	if err := os.Remove(f.Name()); err != nil {
		return nil, nil, unavailable(err)
	}
	n, err := io.Copy(f, io.LimitReader(body, limit+1))
	switch {
	case err != nil:
		return nil, nil, unavailable(err)
	case n > limit:
		return nil, nil, tooLarge(limit)
	case n == 0:
		return nil, func() {}, nil // nothing can be mapped
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(n), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, unavailable(err)
	}
	return m, func() { _ = unix.Munmap(m) }, nil // fails only for what is no mapping
}

// Errors in the service's words, as recorded, or as its users quote them.

func refused(code, message string) error {
	return hearth.Errorf(hearth.InvalidParameter, "Error occurred while GetObject. S3 Error Code: %s. S3 Error Message: %s", code, message)
}

func denied(bucket, key, code, message string) error {
	return hearth.Errorf(hearth.AccessDenied,
		"Your access has been denied by S3, please make sure your request credentials have permission to GetObject for %s/%s. S3 Error Code: %s. S3 Error Message: %s", bucket, key, code, message)
}

func tooLarge(limit int64) error {
	return hearth.Errorf(hearth.InvalidParameter, "Unzipped size must be smaller than %d bytes", limit)
}

// unavailable is of a server that does not answer, or of a disk that is full:
// the caller can do nothing, and whoever runs Hearth reads the cause in its log.
func unavailable(err error) error {
	var known *hearth.Error
	if errors.As(err, &known) {
		return known
	}
	return &hearth.Error{Op: "s3.Fetch", Kind: hearth.Service, Message: "The S3 endpoint that Hearth is configured with could not be read.", Err: err}
}
