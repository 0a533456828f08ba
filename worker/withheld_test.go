package worker

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimeapi"
)

func TestOfASharedFunctionsFailureOnlyTheTypeIsTold(t *testing.T) {
	c := &container{f: &hearth.Function{Timeout: 3 * time.Second, Shared: &hearth.Shared{Owner: "111122223333"}}}
	for _, x := range []struct {
		reported, own string
		ended         bool
		wantType      string
		wantOwn       bool // Hearth's own words stay
	}{
		{"Runtime.Unknown", `{"errorType":"ValueError","errorMessage":"secret","stackTrace":["secret"]}`, false, "ValueError", false},
		{"Runtime.Unknown", `{"errorType":"a secret sentence"}`, false, runtimeapi.TypeFunctionUnknown, false},
		{"Runtime.Unknown", `{"errorType":"` + strings.Repeat("A", 65) + `"}`, false, runtimeapi.TypeFunctionUnknown, false},
		{"", `no JSON, secret`, false, runtimeapi.TypeFunctionUnknown, false},
		{runtimeapi.TypeTimedOut, `{"errorType":"Sandbox.Timedout","errorMessage":"secret"}`, false, runtimeapi.TypeTimedOut, false},
		{runtimeapi.TypeTimedOut, ``, true, runtimeapi.TypeTimedOut, true},
		{runtimeapi.TypeOutOfMemory, ``, true, runtimeapi.TypeOutOfMemory, true},
		{runtimeapi.TypeEntrypoint, `{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"fork/exec /var/task/secret: no such file"}`, true, runtimeapi.TypeEntrypoint, false},
	} {
		body := c.withhold("r-1", x.reported, []byte(x.own), x.ended)
		var got struct{ ErrorType, ErrorMessage string }
		if err := json.Unmarshal(body, &got); err != nil || got.ErrorType != x.wantType || strings.Contains(string(body), "secret") {
			t.Errorf("%s %s: %s, %v", x.reported, x.own, body, err)
		}
		if own := !strings.Contains(got.ErrorMessage, "withheld"); own != x.wantOwn || !strings.Contains(got.ErrorMessage, "r-1") {
			t.Errorf("%s: %s", x.reported, got.ErrorMessage)
		}
	}
	if got := c.typeOf("Made.OfASecret"); got != runtimeapi.TypeFunctionUnknown {
		t.Errorf("the log would have %s", got)
	}
	if got := (&container{f: &hearth.Function{}}).typeOf("Own.Type"); got != "Own.Type" {
		t.Errorf("of its own function the log would have %s", got)
	}
}

// Whatever code says of its failure, what is told is one short name and Hearth's
// own words.
func TestNoTextOfTheCodeGetsThrough(t *testing.T) {
	c := &container{f: &hearth.Function{Shared: &hearth.Shared{}}}
	rapid.Check(t, func(t *rapid.T) {
		body := c.withhold("r", rapid.String().Draw(t, "type"), []byte(rapid.String().Draw(t, "body")), rapid.Bool().Draw(t, "ended"))
		var got map[string]string
		if err := json.Unmarshal(body, &got); err != nil || len(got) != 2 || len(got["errorType"]) > 64 || len(body) > 300 {
			t.Fatalf("%s, %v", body, err)
		}
	})
}
