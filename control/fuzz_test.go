package control

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"

	hearth "github.com/hearth-faas/hearth"
)

// Whatever query and body come to the paths that take one, the answer is a
// document, and no failure of the server's.
func FuzzRequest(f *testing.F) {
	p := &parts{}
	h := &Handler{
		Authenticate: func(*http.Request, []byte) (hearth.Identity, error) { return root, nil },
		Policies:     policyParts{p}, Idempotence: idempotentParts{p}, Backfills: backfillParts{p}, Sources: sourceParts{p}, Predictions: predictionParts{p}, Audits: auditParts{p}, Accounts: accountParts{p}, Operator: ours,
		Log: slog.New(slog.DiscardHandler),
	}
	paths := slices.DeleteFunc(slices.Sorted(maps.Keys(h.actions())), func(path string) bool {
		return !slices.Contains([]string{"/policy/set", "/idempotent/set", "/backfills/start", "/sources/add", "/triggers/set", "/accounts/create", "/accounts/quota"}, path)
	})
	paths = append(paths, "/audit")
	for i := range paths {
		f.Add(i, "function=f&name=n&limit=3&since=2026-03-04T05:06:07Z", []byte(`{"sizing":{"mode":"off"}}`))
	}
	f.Fuzz(func(t *testing.T, i int, query string, body []byte) {
		path := paths[uint(i)%uint(len(paths))]
		method := http.MethodPost
		if path == "/audit" {
			method = http.MethodGet
		}
		r := httptest.NewRequest(method, Prefix+path, bytes.NewReader(body))
		r.URL = &url.URL{Path: Prefix + path, RawQuery: query}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	})
}
