package s3_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/s3"
)

var keys = aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "not much of a secret"}

// demandSignature refuses what is not signed with keys as S3 documents it,
// counted out here by hand.
func demandSignature(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mac := func(key []byte, s string) []byte {
			m := hmac.New(sha256.New, key)
			m.Write([]byte(s))
			return m.Sum(nil)
		}
		at := r.Header.Get("X-Amz-Date")
		if len(at) < 8 {
			at = "00000000"
		}
		request := strings.Join([]string{
			"GET", strings.Split(r.RequestURI, "?")[0], r.URL.RawQuery,
			"host:" + r.Host, "x-amz-content-sha256:" + r.Header.Get("X-Amz-Content-Sha256"), "x-amz-date:" + at, "",
			"host;x-amz-content-sha256;x-amz-date", r.Header.Get("X-Amz-Content-Sha256"),
		}, "\n")
		scope := at[:8] + "/eu-west-1/s3/aws4_request"
		sum := sha256.Sum256([]byte(request))
		key := []byte("AWS4" + keys.SecretAccessKey)
		for _, part := range strings.Split(scope, "/") {
			key = mac(key, part)
		}
		signature := hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256\n"+at+"\n"+scope+"\n"+hex.EncodeToString(sum[:])))
		want := "AWS4-HMAC-SHA256 Credential=" + keys.AccessKeyID + "/" + scope +
			", SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=" + signature
		if r.Header.Get("Authorization") != want {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<?xml version="1.0"?><Error><Code>SignatureDoesNotMatch</Code><Message>The request signature we calculated does not match.</Message></Error>`)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// newServer is a real S3 server with the bucket "code".
func newServer(t *testing.T) (*s3mem.Backend, *httptest.Server) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("code"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(demandSignature(gofakes3.New(backend, gofakes3.WithHostBucket(false)).Server()))
	t.Cleanup(srv.Close)
	return backend, srv
}

func put(t *testing.T, b *s3mem.Backend, key, content string) string {
	t.Helper()
	r, err := b.PutObject("code", key, nil, strings.NewReader(content), int64(len(content)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(r.VersionID)
}

func open(t *testing.T, cfg s3.Config) *s3.Bucket {
	t.Helper()
	cfg.Clock, cfg.TempDir = clock.System(), t.TempDir()
	b, err := s3.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, err := os.ReadDir(cfg.TempDir); err != nil || len(left) > 0 {
			t.Errorf("files were left: %v, %v", left, err)
		}
	})
	return b
}

// want demands an error of a kind whose message is text.
func want(t *testing.T, err error, kind hearth.Kind, text string) {
	t.Helper()
	e, ok := errors.AsType[*hearth.Error](err)
	if !ok || e.Kind != kind || e.Message != text {
		t.Errorf("error %v\nwant %s: %s", err, kind, text)
	}
}

func TestObjectsComeFromARealServerByAnyKey(t *testing.T) {
	t.Parallel()
	backend, srv := newServer(t)
	b := open(t, s3.Config{Endpoint: srv.URL, Region: "eu-west-1", PathStyle: true, Credentials: keys})
	for _, key := range []string{"fn.zip", "a/b c/d+e=f&g%20h.zip", "ü/日本.zip", "x(1)!'*~$,:;@.zip"} {
		put(t, backend, key, "content of "+key)
		got, release, err := b.Fetch(t.Context(), "code", key, "", 1<<20)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		if string(got) != "content of "+key {
			t.Errorf("%s: %q", key, got)
		}
		release()
	}
}

func TestAVersionIsTakenByItsID(t *testing.T) {
	t.Parallel()
	backend, srv := newServer(t)
	if err := backend.SetVersioningConfiguration("code", gofakes3.VersioningConfiguration{Status: gofakes3.VersioningEnabled}); err != nil {
		t.Fatal(err)
	}
	first, second := put(t, backend, "fn.zip", "one"), put(t, backend, "fn.zip", "two")
	b := open(t, s3.Config{Endpoint: srv.URL, Region: "eu-west-1", PathStyle: true, Credentials: keys})
	for version, content := range map[string]string{"": "two", first: "one", second: "two"} {
		got, release, err := b.Fetch(t.Context(), "code", "fn.zip", version, 1<<20)
		if err != nil || string(got) != content {
			t.Fatalf("version %q: %q, %v", version, got, err)
		}
		release()
	}
}

func TestRefusalsAreInTheServicesWords(t *testing.T) {
	t.Parallel()
	backend, srv := newServer(t)
	put(t, backend, "fn.zip", "0123456789")
	b := open(t, s3.Config{Endpoint: srv.URL, Region: "eu-west-1", PathStyle: true, Credentials: keys})
	fetch := func(b *s3.Bucket, bucket, key string, limit int64) error {
		_, _, err := b.Fetch(t.Context(), bucket, key, "", limit)
		return err
	}
	want(t, fetch(b, "code", "none.zip", 100), hearth.InvalidParameter,
		"Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist.")
	want(t, fetch(b, "none", "fn.zip", 100), hearth.InvalidParameter,
		"Error occurred while GetObject. S3 Error Code: NoSuchBucket. S3 Error Message: The specified bucket does not exist")
	want(t, fetch(b, "code", "fn.zip", 9), hearth.InvalidParameter, "Unzipped size must be smaller than 9 bytes")
	if err := fetch(b, "code", "fn.zip", 10); err != nil {
		t.Errorf("as large as allowed: %v", err)
	}
	wrong := keys
	wrong.SecretAccessKey = "another"
	for name, c := range map[string]aws.Credentials{"wrong": wrong, "none": {}} {
		err := fetch(open(t, s3.Config{Endpoint: srv.URL, Region: "eu-west-1", PathStyle: true, Credentials: c}), "code", "fn.zip", 100)
		want(t, err, hearth.AccessDenied, "Your access has been denied by S3, please make sure your request credentials have permission to GetObject for code/fn.zip. S3 Error Code: SignatureDoesNotMatch. S3 Error Message: The request signature we calculated does not match.")
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the key: %v", name, err)
		}
	}
	want(t, fetch(open(t, s3.Config{}), "code", "fn.zip", 100), hearth.InvalidParameter,
		"Hearth has been given no S3 endpoint to take code/fn.zip from: start it with s3-endpoint set (hearth up --s3-endpoint URL, or HEARTH_S3_ENDPOINT), or send the code as ZipFile.")
}

func TestRedirectsAreToldAndNotFollowed(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/code/") {
			t.Errorf("%s was asked for", r.URL)
		}
		w.Header().Set("X-Amz-Bucket-Region", "eu-central-1")
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusMovedPermanently)
		fmt.Fprint(w, "<Error><Code>PermanentRedirect</Code><Message>m</Message></Error>")
	}))
	defer srv.Close()
	_, _, err := open(t, s3.Config{Endpoint: srv.URL, PathStyle: true}).Fetch(t.Context(), "code", "fn.zip", "", 100)
	want(t, err, hearth.InvalidParameter, "Error occurred while GetObject. S3 Error Code: PermanentRedirect. S3 Error Message: The bucket is in this region: eu-central-1. Please use this region to retry the request")
}

func TestAServerThatIsDownOrBreaksOffIsNotTheCallersFault(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "half of it")
		panic(http.ErrAbortHandler)
	}))
	b := open(t, s3.Config{Endpoint: srv.URL, PathStyle: true})
	for range 2 {
		_, _, err := b.Fetch(t.Context(), "code", "fn.zip", "", 1000)
		want(t, err, hearth.Service, "The S3 endpoint that Hearth is configured with could not be read.")
		srv.Close()
	}
}

func TestAFoldersFoldersAreBuckets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{"code/a/fn.zip": "zip", "secret": "of the host", "other/x": "x"} {
		path := filepath.Join(dir, "buckets", name)
		if name == "secret" {
			path = filepath.Join(dir, name)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../secret", filepath.Join(dir, "buckets/code/link")); err != nil {
		t.Fatal(err)
	}
	b := open(t, s3.Config{Endpoint: "file://" + filepath.Join(dir, "buckets")})
	got, release, err := b.Fetch(t.Context(), "code", "a/fn.zip", "", 100)
	if err != nil || string(got) != "zip" {
		t.Fatalf("%q, %v", got, err)
	}
	release()
	for _, c := range [][3]string{
		{"code", "link", "NoSuchKey"}, {"code", "../other/x", "NoSuchKey"}, {"code", "a", "NoSuchKey"}, {"code", "none", "NoSuchKey"},
		{"code", "/a/fn.zip", "NoSuchKey"}, {"code", "a//fn.zip", "NoSuchKey"},
		{"..", "secret", "NoSuchBucket"}, {"...", "secret", "NoSuchBucket"}, {"none", "x", "NoSuchBucket"},
	} {
		_, _, err := b.Fetch(t.Context(), c[0], c[1], "", 100)
		e, ok := errors.AsType[*hearth.Error](err)
		if !ok || e.Kind != hearth.InvalidParameter || !strings.Contains(e.Message, c[2]) {
			t.Errorf("%s/%s: %v", c[0], c[1], err)
		}
	}
}

func TestEndpointsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"localhost:9000", "ftp://x", "http://", "file://host/x", "file:x", "http://u:p@h", "http://h?x=1", "://"} {
		if err := s3.CheckEndpoint(bad); err == nil {
			t.Errorf("%q is taken", bad)
		} else if strings.Contains(err.Error(), "u:p@") {
			t.Errorf("it tells the password: %v", err)
		}
	}
	for _, good := range []string{"", "http://127.0.0.1:9000", "https://s3.example.com/base", "file:///srv/s3"} {
		if err := s3.CheckEndpoint(good); err != nil {
			t.Error(err)
		}
	}
}

// TestAnObjectOutlivesItsFetch: the bytes are there until they are let go,
// whatever else is fetched.
func TestAnObjectOutlivesItsFetch(t *testing.T) {
	t.Parallel()
	backend, srv := newServer(t)
	put(t, backend, "big", strings.Repeat("x", 3<<20))
	b := open(t, s3.Config{Endpoint: srv.URL, Region: "eu-west-1", PathStyle: true, Credentials: keys})
	deadline := time.Now().Add(2 * time.Minute)
	got, release, err := b.Fetch(t.Context(), "code", "big", "", 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, again, err := b.Fetch(t.Context(), "code", "big", "", 4<<20)
		if err != nil || time.Now().After(deadline) {
			t.Fatal(err)
		}
		again()
	}
	if len(got) != 3<<20 || strings.Trim(string(got), "x") != "" {
		t.Error("it has changed")
	}
	release()
}
