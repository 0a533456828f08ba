package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/hearth-faas/hearth/control"
)

// A batch of an event source that was given up is parked, survives a kill, and
// is run whole when it is redriven, once its function is mended.
func TestAParkedBatchOfAnEventSourceIsRedriven(t *testing.T) {
	t.Parallel()
	in := t.TempDir()
	s := start(t, "--pool", "0", "--event-retry", "50ms")
	code := func(fails string) map[string]string {
		return map[string]string{"app.py": `
def handler(event, context):
    for r in event["Records"]:
        print("SEEN<%s>" % r["s3"]["object"]["key"])
    if ` + fails + `: raise ValueError("not mended")
    for r in event["Records"]:
        print("DONE<%s>" % r["s3"]["object"]["key"])
`}
	}
	s.deploy(function{name: "files", runtime: "python3.11", handler: "app.handler", files: code("True")})
	s.must("source", "add", "incoming", "file://"+in)
	for _, name := range []string{"a.csv", "b.csv"} {
		if err := os.WriteFile(filepath.Join(in, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.mapping(&lambda.CreateEventSourceMappingInput{
		FunctionName: aws.String("files"), EventSourceArn: aws.String("arn:aws:hearth:us-east-1:000000000000:source/incoming"),
		BatchSize: aws.Int32(10), MaximumRetryAttempts: aws.Int32(1),
	})
	var parked []control.ParkedEvent
	list := func() []control.ParkedEvent {
		var list []control.ParkedEvent
		if err := json.Unmarshal([]byte(s.must("parked", "--json")), &list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	s.eventually("a batch is parked", func() bool {
		parked = list()
		for _, p := range parked {
			if p.Function != "files" || !strings.Contains(p.Reason, "event-source-mapping") {
				t.Fatalf("parked is %+v", p)
			}
		}
		return len(parked) > 0
	})
	s.kill9()
	s = startIn(t, s.dir, "--pool", "0", "--event-retry", "50ms")
	if _, err := s.client().UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("files"), ZipFile: zipOf(t, code("False"))}); err != nil {
		t.Fatal(err)
	}
	s.waitActive("files")
	redriven := map[string]bool{}
	s.eventually("what was redriven is done", func() bool {
		for _, p := range list() { // also what came to be parked meanwhile
			if !redriven[p.ID] {
				redriven[p.ID] = true
				s.must("parked", "redrive", p.ID)
			}
		}
		out, err := s.hearth("logs", "files")
		return err == nil && strings.Contains(out, "DONE<a.csv>") && strings.Contains(out, "DONE<b.csv>")
	})
	s.eventually("nothing is parked", func() bool { return len(list()) == 0 })
}
