package lambda

import (
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

func provokeRecursion(p *provoker) {
	p.create("hello")
	ctx := p.t.Context()
	p.try(failed(p.lambda.PutFunctionRecursionConfig(ctx, &sdk.PutFunctionRecursionConfigInput{FunctionName: new("hello"), RecursiveLoop: "InvalidValue"})))
	p.try(failed(p.lambda.PutFunctionRecursionConfig(ctx, &sdk.PutFunctionRecursionConfigInput{FunctionName: new("doesnotexist"), RecursiveLoop: "Allow"})))
}

func TestRecursionIsTerminatedUnlessAllowed(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	ctx := t.Context()
	for _, set := range []types.RecursiveLoop{"", types.RecursiveLoopAllow, types.RecursiveLoopTerminate} {
		want := types.RecursiveLoopTerminate
		if set != "" {
			want = set
			out, err := w.lambda.PutFunctionRecursionConfig(ctx, &sdk.PutFunctionRecursionConfigInput{FunctionName: new("hello"), RecursiveLoop: set})
			if err != nil || out.RecursiveLoop != set {
				t.Fatal(out, err)
			}
		}
		out, err := w.lambda.GetFunctionRecursionConfig(ctx, &sdk.GetFunctionRecursionConfigInput{FunctionName: new("hello")})
		if err != nil || out.RecursiveLoop != want {
			t.Errorf("after %q: %v %v", set, out, err)
		}
	}
}

func TestRuntimeManagementIsOfOneVersion(t *testing.T) {
	w := newWorld(t)
	made := w.create("hello")
	ctx := t.Context()
	if err := failed(w.lambda.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: new("hello")})); err != nil {
		t.Fatal(err)
	}
	if err := failed(w.lambda.CreateAlias(ctx, &sdk.CreateAliasInput{FunctionName: new("hello"), Name: new("live"), FunctionVersion: new("1")})); err != nil {
		t.Fatal(err)
	}
	get := func(qualifier, arn string, on types.UpdateRuntimeOn, version string) {
		t.Helper()
		out, err := w.lambda.GetRuntimeManagementConfig(ctx, &sdk.GetRuntimeManagementConfigInput{FunctionName: new("hello"), Qualifier: optional(qualifier)})
		if err != nil || *out.FunctionArn != arn || out.UpdateRuntimeOn != on || str(out.RuntimeVersionArn) != version {
			t.Errorf("%q: %+v %v", qualifier, out, err)
		}
	}
	put := func(qualifier string, on types.UpdateRuntimeOn, version string) error {
		return failed(w.lambda.PutRuntimeManagementConfig(ctx, &sdk.PutRuntimeManagementConfigInput{
			FunctionName: new("hello"), Qualifier: optional(qualifier), UpdateRuntimeOn: on, RuntimeVersionArn: optional(version),
		}))
	}
	arn, version := *made.FunctionArn, *made.RuntimeVersionConfig.RuntimeVersionArn
	get("", arn, types.UpdateRuntimeOnAuto, "")
	wantError(t, put("", types.UpdateRuntimeOnManual, ""), "InvalidParameterValueException", "RuntimeVersionArn is required")
	wantError(t, put("", types.UpdateRuntimeOnManual, version+"0"), "InvalidParameterValueException", "does not exist for the runtime python3.12")
	wantError(t, put("", types.UpdateRuntimeOnAuto, version), "InvalidParameterValueException", "only supported when")
	wantError(t, put("live", types.UpdateRuntimeOnAuto, ""), "InvalidParameterValueException", "Aliases do not support")
	wantError(t, put("7", types.UpdateRuntimeOnAuto, ""), "ResourceNotFoundException", "Function not found: "+arn+":7")
	if err := put("", types.UpdateRuntimeOnManual, version); err != nil {
		t.Fatal(err)
	}
	if err := put("1", types.UpdateRuntimeOnFunctionUpdate, ""); err != nil {
		t.Fatal(err)
	}
	get("", arn, types.UpdateRuntimeOnManual, version)
	get("$LATEST", arn+":$LATEST", types.UpdateRuntimeOnManual, version)
	get("1", arn+":1", types.UpdateRuntimeOnFunctionUpdate, "")
	if err := put("", types.UpdateRuntimeOnAuto, ""); err != nil {
		t.Fatal(err)
	}
	get("", arn, types.UpdateRuntimeOnAuto, "")
}
