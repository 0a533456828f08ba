package s3_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/hearth-faas/hearth/s3"
)

func TestAnObjectIsPutSigned(t *testing.T) {
	backend := s3mem.New()
	if err := backend.CreateBucket("records"); err != nil {
		t.Fatal(err)
	}
	fake := gofakes3.New(backend, gofakes3.WithHostBucket(false)).Server()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if auth := r.Header.Get("Authorization"); !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") || !strings.Contains(auth, "/eu-west-1/s3/") {
			t.Errorf("it is signed %q", auth)
		}
		fake.ServeHTTP(w, r)
	}))
	defer srv.Close()
	b := open(t, s3.Config{Endpoint: srv.URL, Region: "eu-west-1", PathStyle: true, Credentials: keys})
	for _, key := range []string{"plain", "aws/lambda/a b/ü+%.json"} {
		if err := b.Put(t.Context(), "records", key, "application/json", []byte(`{"x":1}`)); err != nil {
			t.Fatal(err)
		}
		object, err := backend.GetObject("records", key, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(object.Contents)
		if err != nil || string(text) != `{"x":1}` || object.Metadata["Content-Type"] != "application/json" {
			t.Errorf("%s is %s, %v (%v)", key, text, object.Metadata, err)
		}
	}
	err := b.Put(t.Context(), "other", "key", "text/plain", nil)
	if err == nil || !strings.Contains(err.Error(), "NoSuchBucket") || strings.Contains(err.Error(), keys.SecretAccessKey) {
		t.Errorf("the error is %v", err)
	}
	if err := open(t, s3.Config{}).Put(t.Context(), "b", "k", "", nil); err != s3.ErrNowhere {
		t.Errorf("without an endpoint: %v", err)
	}
}
