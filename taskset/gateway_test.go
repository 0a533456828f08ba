package taskset

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth"
)

// runs is an Invoker that lets calls in as the frontend does, and answers with
// what it runs.
type runs struct{ *harness }

func (r runs) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	f, err := r.Resolve(ctx, inv.Account, inv.Name, inv.Qualifier)
	if err != nil {
		return nil, err
	}
	inv.Function, inv.RequestID = f, "r-1"
	if err := r.Enter(ctx, inv); err != nil {
		return nil, err
	}
	defer r.Leave(inv)
	if string(inv.Payload) == `"fail"` {
		return &hearth.Result{Payload: []byte(`{"errorType":"Oops"}`), FunctionError: "Unhandled"}, nil
	}
	return &hearth.Result{Payload: []byte(`"` + f.Name + `:` + f.Shared.Stage + `"`)}, nil
}

func TestTasksAreCalledByHTTPWithASignatureOrAKey(t *testing.T) {
	h := newHarness(t)
	h.img(Settings{Open: true})
	h.subscribe(alice)
	_, secret, err := h.MakeKey(t.Context(), alice, "img", "")
	if err != nil {
		t.Fatal(err)
	}
	done := 0
	g := &Gateway{Sets: h.Sets, Invoker: runs{h}, Done: func(*hearth.Invocation) { done++ }, Clock: h.clock, Region: "us-east-1", Log: slog.New(slog.DiscardHandler),
		Verify: func(r *http.Request, _ []byte) (hearth.Identity, error) {
			if a := r.Header.Get("Authorization"); a != "" {
				return hearth.Identity{Account: hearth.Account(a)}, nil
			}
			return hearth.Identity{}, hearth.Errorf(hearth.MissingToken, "Missing Authentication Token")
		}}
	srv := httptest.NewServer(g.Over(http.NotFoundHandler()))
	defer srv.Close()
	for _, c := range []struct {
		method, path, who, key, body string
		status                       int
		answer                       string
	}{
		{"POST", "/tasks/000000000000/img/prod/thumb", string(alice), "", `{}`, 200, `"img--thumb:prod"`},
		{"POST", "/tasks/000000000000/img/prod/thumb", string(alice), secret, ``, 200, `"img--thumb:prod"`},
		{"POST", "/tasks/000000000000/img/prod/thumb", "", secret, `{}`, 200, `"img--thumb:prod"`},
		{"POST", "/tasks/000000000000/img/prod/thumb", string(alice), "", `"fail"`, 502, `Oops`},
		{"POST", "/tasks/000000000000/img/prod/thumb", string(bob), "", `{}`, 403, `AccessDenied`},
		{"POST", "/tasks/000000000000/other/prod/thumb", string(bob), "", `{}`, 403, `AccessDenied`},
		{"POST", "/tasks/000000000000/other/prod/thumb", "", secret, `{}`, 403, `AccessDenied`},
		{"POST", "/tasks/000000000000/img/prod/thumb", "", "hk-0", `{}`, 403, `AccessDenied`},
		{"POST", "/tasks/000000000000/img/prod/thumb", string(alice), "hk-0", `{}`, 403, `AccessDenied`},
		{"POST", "/tasks/000000000000/img/prod/thumb", "", "", `{}`, 403, `MissingAuthenticationToken`},
		{"POST", "/tasks/000000000000/img/prod/nope", string(alice), "", `{}`, 404, `no task nope`},
		{"POST", "/tasks/000000000000/img/beta/thumb", string(alice), "", `{}`, 404, `no stage beta`},
		{"POST", "/tasks/000000000000/img/prod/thumb", string(alice), "", `{`, 400, `JSON`},
		{"POST", "/tasks/000000000000/img/prod/thumb", string(alice), "", strings.Repeat("1", hearth.MaxPayload+1), 413, `bytes`},
		{"GET", "/tasks/000000000000/img/prod/thumb", string(alice), "", ``, 404, `POST`},
		{"POST", "/tasks/000000000000/img/thumb", string(alice), "", ``, 404, `/tasks/OWNER/API/STAGE/TASK`},
		{"POST", "/else", string(alice), "", ``, 404, `not found`},
	} {
		req, err := http.NewRequest(c.method, srv.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if c.who != "" {
			req.Header.Set("Authorization", c.who)
		}
		if c.key != "" {
			req.Header.Set(headerKey, c.key)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || !strings.Contains(string(body), c.answer) {
			t.Errorf("%s %s by %q with key %q: %d %s, want %d %s", c.method, c.path, c.who, c.key, resp.StatusCode, body, c.status, c.answer)
		}
		if c.status >= 400 && c.path != "/else" && !json.Valid(body) {
			t.Errorf("%s", body)
		}
	}
	if done != 7 {
		t.Errorf("%d invocations are told as done", done)
	}
}

func FuzzSecretOf(f *testing.F) {
	f.Add(`{"custom":{"x-api-key":"hk-1"}}`)
	f.Add(`{"custom":{"x-api-key":1}}`)
	f.Fuzz(func(t *testing.T, context string) {
		secret := secretOf(t.Context(), &hearth.Invocation{ClientContext: context})
		if secret != "" && !json.Valid([]byte(context)) {
			t.Errorf("%q of %q", secret, context)
		}
	})
}
