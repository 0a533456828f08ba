package lambda

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/hearth-faas/hearth"
)

func TestAnInvocationMayAskForMemoryOfItsOwn(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	asked := -1
	w.invoker.answer = func(inv *hearth.Invocation) (*hearth.Result, error) {
		asked = inv.MemoryMiB
		return &hearth.Result{Payload: []byte(`1`), Version: "1"}, nil
	}
	ask := func(header string) error {
		asked = -1
		_, err := w.lambda.Invoke(context.Background(), &lambda.InvokeInput{FunctionName: new("hello")},
			lambda.WithAPIOptions(smithyhttp.SetHeaderValue(headerMemory, header)))
		return err
	}
	for header, want := range map[string]int{"512": 512, "128": 128, "10240": 10240, "": 0} {
		if err := ask(header); err != nil || asked != want {
			t.Errorf("%q: it asks for %d, %v", header, asked, err)
		}
	}
	for _, header := range []string{"127", "10241", "-1", "1e3", "much", "512 MiB"} {
		wantError(t, ask(header), "InvalidParameterValueException", "is not a number of MiB between 128 and 10240.")
		if asked != -1 {
			t.Errorf("%q was run", header)
		}
	}
}
