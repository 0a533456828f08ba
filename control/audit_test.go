package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/audit"
	"github.com/hearth-faas/hearth/clock"
)

// open stands for the master key.
type open struct{}

func (open) Seal(plain, _ []byte) ([]byte, error)  { return plain, nil }
func (open) Open(sealed, _ []byte) ([]byte, error) { return sealed, nil }

type realAudits struct {
	*audit.Log
	dir string
}

func (a realAudits) Verify(since string) (audit.Verdict, error) {
	return audit.Verify(a.dir, open{}, since)
}

type noParked struct{}

func (noParked) List(context.Context, hearth.Account, int) ([]ParkedEvent, error) { return nil, nil }
func (noParked) Redrive(_ context.Context, _ hearth.Account, id string) error {
	if id == "x" {
		return hearth.Errorf(hearth.NotFound, "There is no event x.")
	}
	return nil
}

// Every call of the API is recorded before it is answered, also one that was
// refused; and each account is shown its own.
func TestCallsAreInTheAuditLog(t *testing.T) {
	dir := t.TempDir()
	log, err := audit.Open(audit.Config{Dir: dir, Clock: clock.System(), Key: open{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	h := &Handler{
		Authenticate: func(r *http.Request, _ []byte) (hearth.Identity, error) {
			account := hearth.Account(r.Header.Get("Account"))
			if account == "" {
				return hearth.Identity{}, hearth.Errorf(hearth.MissingToken, "Missing Authentication Token")
			}
			return hearth.Identity{Account: account, ARN: "arn:aws:iam::" + string(account) + ":root"}, nil
		},
		Parked: noParked{}, Audits: realAudits{log, dir}, Audit: log, Operator: "000000000000",
	}
	do := func(method, path, account string, into any) int {
		t.Helper()
		r := httptest.NewRequest(method, Prefix+path, strings.NewReader(""))
		r.Header.Set("Account", account)
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260304/us-east-1/hearth/aws4_request, SignedHeaders=host, Signature=aa")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		b, _ := io.ReadAll(w.Body)
		if into != nil {
			if err := json.NewDecoder(bytes.NewReader(b)).Decode(into); err != nil {
				t.Fatal(err)
			}
			d := load(t)
			var v any
			if err := json.Unmarshal(b, &v); err != nil {
				t.Fatal(err)
			}
			_, op := d.only(t, strings.Split(path, "?")[0])
			if wrong := d.check(op.Responses["200"].Content["application/json"].Schema, v, ""); len(wrong) > 0 {
				t.Errorf("%s: %v", path, wrong)
			}
		}
		return w.Code
	}
	if code := do("POST", "/parked/redrive?id=a&secret=hunter2", "111122223333", nil); code != 200 {
		t.Fatal(code)
	}
	do("POST", "/parked/redrive?id=x", "111122223333", nil)
	do("GET", "/parked", "222233334444", nil)
	do("POST", "/parked/redrive?id=b", "", nil)

	list := func(account string, want int) (found AuditList) {
		t.Helper()
		// What is not waited for is written in a moment.
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
			if do("GET", "/audit?action=hearth:*edrive*", account, &found); len(found.Events) == want {
				return found
			}
			if time.Now().After(end) {
				t.Fatalf("%s sees %+v", account, found.Events)
			}
		}
	}
	mine := list("111122223333", 2)
	first := mine.Events[1]
	if first.Action != "hearth:Redrive" || first.Resource != "a" || first.AccessKeyID != "AKIAEXAMPLE" || first.ErrorCode != "" || first.ReadOnly || first.Omitted != 1 {
		t.Errorf("%+v", first)
	}
	if e := mine.Events[0]; e.ErrorCode != string(hearth.NotFound) {
		t.Errorf("%+v", e)
	}
	list("222233334444", 0)
	all := list("000000000000", 3)
	if e := all.Events[0]; e.ErrorCode != string(hearth.MissingToken) || e.Principal != "" {
		t.Errorf("%+v", e)
	}
	if code := do("GET", "/audit/verify", "111122223333", nil); code != 403 {
		t.Errorf("an account verifies the log of all: %d", code)
	}
	var v audit.Verdict
	if do("GET", "/audit/verify", "000000000000", &v); len(v.Wrong) != 0 || v.Records < 3 {
		t.Errorf("%+v", v)
	}
	var buf bytes.Buffer
	if err := json.NewEncoder(&buf).Encode(all); err != nil || strings.Contains(buf.String(), "hunter2") {
		t.Errorf("%v %s", err, buf.String())
	}
	if err := errors.Join(log.Close()); err != nil {
		t.Fatal(err)
	}
	if code := do("POST", "/parked/redrive?id=a", "111122223333", nil); code != 500 {
		t.Errorf("a change that can't be recorded is made: %d", code)
	}
}

// auditParts are Audits.
type auditParts struct{ *parts }

func (p auditParts) Find(audit.Filter) ([]audit.Event, error) {
	return []audit.Event{{Seq: 1, Time: time.Unix(0, 0).UTC(), ID: "1", Service: "lambda", Action: "lambda:CreateFunction", Parameters: map[string]string{"FunctionName": "f"}}}, p.err
}

func (p auditParts) Verify(string) (audit.Verdict, error) {
	return audit.Verdict{Records: 1, First: 1, Last: 1, Mark: "1:00", Wrong: []string{}}, p.err
}
