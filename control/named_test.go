package control

import (
	"testing"

	hearth "github.com/hearth-faas/hearth"
)

func TestAFunctionIsNamedByItsARNAsByItsName(t *testing.T) {
	p := &parts{}
	c := serve(t, p, root, nil)
	const arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
	if _, err := c.Find(t.Context(), DecisionQuery{Function: arn}); err != nil || p.asked.Function != "f" {
		t.Errorf("decisions: %v, %+v", err, p.asked)
	}
	if err := c.Logs(t.Context(), LogQuery{Function: arn}, func(LogLine) error { return nil }); err != nil || p.logs.Function != "f" {
		t.Errorf("logs: %v, %+v", err, p.logs)
	}
	for function, want := range map[string]hearth.Kind{
		"arn:aws:lambda:us-east-1:111111111111:function:f": hearth.NotFound, // another's, whatever it is
		"arn:aws:lambda:eu-west-1:000000000000:function:f": hearth.NotFound,
		"arn:aws:sqs:us-east-1:000000000000:f":             hearth.NotFound,
		arn + ":prod":                                      hearth.InvalidParameter,
		"f:1":                                              hearth.InvalidParameter,
	} {
		for _, path := range []string{"/decisions", "/logs", "/learned", "/advice"} {
			_, err := raw(t, c, path+"?function="+function)
			f, ok := err.(*Failure)
			if !ok || f.Kind != want {
				t.Errorf("%s of %s: %v, want %s", path, function, err, want)
			}
		}
	}
}
