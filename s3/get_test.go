package s3

import (
	"net/http"
	"testing"
)

func TestABucketMayBeBeforeTheHostsName(t *testing.T) {
	t.Parallel()
	for style, want := range map[bool]string{true: "https://s3.example.com/code/a%20b/fn.zip", false: "https://code.s3.example.com/a%20b/fn.zip"} {
		b, err := New(Config{Endpoint: "https://s3.example.com", PathStyle: style})
		if err != nil {
			t.Fatal(err)
		}
		r, err := b.request(t.Context(), http.MethodGet, "code", "a b/fn.zip", "")
		if err != nil {
			t.Fatal(err)
		}
		if r.URL.String() != want || r.Host != r.URL.Host {
			t.Errorf("asked for %s at %s, not %s", r.URL, r.Host, want)
		}
	}
}
