package e2e

import (
	"errors"
	"math"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// An alias with weights shares its invocations among two versions by them, as
// the callers see in ExecutedVersion.
func TestAnAliasWithWeightsSharesItsInvocations(t *testing.T) {
	t.Parallel()
	s := start(t)
	c, ctx := s.client(), t.Context()
	s.deploy(function{name: "shared", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "echo")})
	for _, description := range []string{"one", "two"} {
		if _, err := c.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: new("shared"), Description: &description}); err != nil {
			t.Fatal(err)
		}
		s.waitActive("shared")
		s.publish("shared")
	}
	const weight, calls = 0.3, 400
	alias, err := c.CreateAlias(ctx, &lambda.CreateAliasInput{
		FunctionName: new("shared"), Name: new("live"), FunctionVersion: new("1"),
		RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{"2": weight}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]int{}
	for range calls {
		out, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: alias.AliasArn, Payload: []byte(`{}`)})
		if err != nil {
			t.Fatal(err)
		}
		ran[*out.ExecutedVersion]++
	}
	// Six standard deviations: it fails by chance once in a thousand million.
	if off := math.Abs(float64(ran["2"]) - calls*weight); off > 6*math.Sqrt(calls*weight*(1-weight)) || ran["1"]+ran["2"] != calls {
		t.Errorf("of %d invocations with %v for version 2: %v", calls, weight, ran)
	}
	_, err = c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: new("shared"), Qualifier: new("2")})
	if _, ok := errors.AsType[*types.ResourceConflictException](err); !ok {
		t.Errorf("a version in use by an alias was deleted: %v", err)
	}
	moved, err := c.UpdateAlias(ctx, &lambda.UpdateAliasInput{FunctionName: new("shared"), Name: new("live"), FunctionVersion: new("2"),
		RoutingConfig: &types.AliasRoutingConfiguration{}, RevisionId: alias.RevisionId})
	if err != nil || moved.RoutingConfig != nil {
		t.Fatalf("%+v %v", moved, err)
	}
	for range 20 {
		out, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: new("shared"), Qualifier: new("live"), Payload: []byte(`{}`)})
		if err != nil || *out.ExecutedVersion != "2" {
			t.Fatalf("after the alias moved: %+v %v", out, err)
		}
	}
}
