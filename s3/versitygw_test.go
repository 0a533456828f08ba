package s3_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/internal/brokers"
	"github.com/hearth-faas/hearth/s3"
)

// What another's server, which checks every signature, makes of each operation.
func TestEveryOperationSuitsAnotherServer(t *testing.T) {
	t.Parallel()
	server := brokers.Start(t, brokers.VersityGW, brokers.Options{})
	ask := func(method, about, body string) http.Header {
		t.Helper()
		h, err := server.S3(t.Context(), method, about, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	ask(http.MethodPut, "/data", "")
	b := open(t, s3.Config{Endpoint: "http://" + server.Addr, Region: "us-east-1", PathStyle: true, Credentials: server.S3User()})
	ctx := t.Context()
	put := func(key, content string) {
		t.Helper()
		if err := b.Put(ctx, "data", key, "text/plain", []byte(content)); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
	keys := []string{"fn.zip", "a/b c/d+e=f&g%20h.zip", "ü/日本.zip", "x(1)!'*~$,:;@.zip", "<a>/\"q\"?#", "a/%", "a/+"}
	for _, key := range keys {
		put(key, "content of "+key)
		got, release, err := b.Fetch(ctx, "data", key, "", 1<<20)
		if err != nil || string(got) != "content of "+key {
			t.Fatalf("%s: %q, %v", key, got, err)
		}
		release()
	}
	slices.Sort(keys)
	var listed []string
	for token := ""; ; {
		page, next, err := b.List(ctx, "data", "", token, "", 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page {
			listed = append(listed, o.Key)
			if o.Size != int64(len("content of "+o.Key)) || o.ETag == "" || o.Modified.IsZero() {
				t.Errorf("listed is %+v", o)
			}
		}
		if token = next; next == "" {
			break
		}
	}
	if !slices.Equal(listed, keys) {
		t.Errorf("listed are %q, not %q", listed, keys)
	}
	if page, _, err := b.List(ctx, "data", "a/", "", "a/+", 10); err != nil || len(page) != 1 || page[0].Key != "a/b c/d+e=f&g%20h.zip" {
		t.Errorf("after a key: %v, %v", page, err)
	}

	put("lines", "0123456789")
	read := func(tag string, from int64) (string, string) {
		t.Helper()
		r, got, err := b.Open(ctx, "data", "lines", tag, from)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(text), got
	}
	text, tag := read("", 0)
	if rest, again := read(tag, 7); text != "0123456789" || rest != "789" || again != tag {
		t.Errorf("read %q %s, and then %q %s", text, tag, rest, again)
	}
	if none, _ := read(tag, 10); none != "" {
		t.Errorf("past the end there is %q", none)
	}
	put("lines", "abcdefghij")
	if _, _, err := b.Open(ctx, "data", "lines", tag, 7); !errors.Is(err, s3.ErrChanged) {
		t.Errorf("another content by now: %v", err)
	}

	ask(http.MethodPut, "/data?versioning=", `<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>`)
	versions := map[string]string{}
	for _, content := range []string{"one", "two"} {
		versions[ask(http.MethodPut, "/data/v", content).Get("X-Amz-Version-Id")] = content
	}
	for version, content := range versions {
		got, release, err := b.Fetch(ctx, "data", "v", version, 100)
		if err != nil || string(got) != content || len(versions) != 2 {
			t.Fatalf("version %q: %q, %v", version, got, err)
		}
		release()
	}
	if o, err := b.Stat(ctx, "data", "v"); err != nil || !o.Exists || o.Size != 3 {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := b.Stat(ctx, "data", "none"); err != nil || o.Exists {
		t.Errorf("of what is not there: %+v, %v", o, err)
	}
	refused := func(bucket, key string) error {
		_, _, err := b.Fetch(ctx, bucket, key, "", 100)
		return err
	}
	want(t, refused("data", "none"), hearth.InvalidParameter,
		"Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist.")
	want(t, refused("none", "k"), hearth.InvalidParameter,
		"Error occurred while GetObject. S3 Error Code: NoSuchBucket. S3 Error Message: The specified bucket does not exist.")
	if _, _, err := b.List(ctx, "none", "", "", "", 1); hearth.KindOf(err) != hearth.InvalidParameter {
		t.Errorf("a listing of no bucket: %v", err)
	}
	wrong := server.S3User()
	wrong.SecretAccessKey += "x"
	stranger := open(t, s3.Config{Endpoint: "http://" + server.Addr, Region: "us-east-1", PathStyle: true, Credentials: wrong})
	if _, _, err := stranger.List(ctx, "data", "", "", "", 1); hearth.KindOf(err) != hearth.AccessDenied {
		t.Errorf("with a wrong key: %v", err)
	}
}
