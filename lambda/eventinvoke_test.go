package lambda

import (
	"fmt"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"pgregory.net/rapid"
)

func provokeEventInvoke(p *provoker) {
	ctx := p.t.Context()
	arn := *p.create("hello").FunctionArn
	if err := failed(p.lambda.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: new("hello")})); err != nil {
		p.t.Fatal(err)
	}
	if err := failed(p.lambda.CreateAlias(ctx, &sdk.CreateAliasInput{FunctionName: new("hello"), Name: new("eventinvokealias"), FunctionVersion: new("1")})); err != nil {
		p.t.Fatal(err)
	}
	put := func(name string, qualifier *string, success, failure string) {
		p.t.Helper()
		in := &sdk.PutFunctionEventInvokeConfigInput{FunctionName: &name, Qualifier: qualifier, DestinationConfig: &types.DestinationConfig{}}
		if success != "" {
			in.DestinationConfig.OnSuccess = &types.OnSuccess{Destination: &success}
		}
		if failure != "" {
			in.DestinationConfig.OnFailure = &types.OnFailure{Destination: &failure}
		}
		p.try(failed(p.lambda.PutFunctionEventInvokeConfig(ctx, in)))
	}
	put("doesnotexist", nil, "", "")
	put("hello", new("no-such-alias"), "", "")
	put("hello", nil, arnPrefix+"doesnotexist", "")
	put("hello", nil, arn, "")
	put("hello", nil, "arn:aws:iam:us-east-1:000000000000:function:hello", "")
	put("hello", nil, "", "arn:aws:_-/!lambda:us-east-1:000000000000:function:hello")
	p.try(failed(p.lambda.PutFunctionEventInvokeConfig(ctx, &sdk.PutFunctionEventInvokeConfigInput{FunctionName: new("doesnotexist")})))
	p.try(failed(p.lambda.UpdateFunctionEventInvokeConfig(ctx, &sdk.UpdateFunctionEventInvokeConfigInput{FunctionName: new("hello"), MaximumRetryAttempts: new(int32(1))})))
	p.try(failed(p.lambda.ListFunctionEventInvokeConfigs(ctx, &sdk.ListFunctionEventInvokeConfigsInput{FunctionName: new("doesnotexist")})))
	for _, q := range []*string{nil, new("1"), new("1221"), new("eventinvokealias"), new("doesnotexist")} {
		p.try(failed(p.lambda.GetFunctionEventInvokeConfig(ctx, &sdk.GetFunctionEventInvokeConfigInput{FunctionName: new("hello"), Qualifier: q})))
		p.try(failed(p.lambda.DeleteFunctionEventInvokeConfig(ctx, &sdk.DeleteFunctionEventInvokeConfigInput{FunctionName: new("hello"), Qualifier: q})))
	}
	p.try(failed(p.lambda.GetFunctionEventInvokeConfig(ctx, &sdk.GetFunctionEventInvokeConfigInput{FunctionName: new("doesnotexist")})))
}

func TestEventInvokeS3TakesFailuresOnly(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	bucket := "arn:aws:s3:::records"
	_, err := w.lambda.PutFunctionEventInvokeConfig(t.Context(), &sdk.PutFunctionEventInvokeConfigInput{
		FunctionName: new("hello"), DestinationConfig: &types.DestinationConfig{OnFailure: &types.OnFailure{Destination: &bucket}},
	})
	if err != nil {
		t.Error(err)
	}
	_, err = w.lambda.PutFunctionEventInvokeConfig(t.Context(), &sdk.PutFunctionEventInvokeConfigInput{
		FunctionName: new("hello"), DestinationConfig: &types.DestinationConfig{OnSuccess: &types.OnSuccess{Destination: &bucket}},
	})
	wantError(t, err, "InvalidParameterValueException", "DestinationConfig(onSuccess=OnSuccess(destination=arn:aws:s3:::records), onFailure=null) is invalid.")
}

// invokeModel is an event-invoke configuration as the plainest service keeps
// it; a nil number is none.
type invokeModel struct {
	age, retries     *int32
	success, failure string
}

func (m *invokeModel) String() string {
	number := func(n *int32) string {
		if n == nil {
			return "none"
		}
		return fmt.Sprint(*n)
	}
	return fmt.Sprintf("age %s, retries %s, success %q, failure %q", number(m.age), number(m.retries), m.success, m.failure)
}

// TestPutResetsAndUpdateKeepsWhatIsNotNamed runs random changes of a
// function's, a version's and an alias's configurations against a model.
func TestPutResetsAndUpdateKeepsWhatIsNotNamed(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.create("hello")
	w.create("other")
	if err := failed(w.lambda.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: new("hello")})); err != nil {
		t.Fatal(err)
	}
	if err := failed(w.lambda.CreateAlias(ctx, &sdk.CreateAliasInput{FunctionName: new("hello"), Name: new("live"), FunctionVersion: new("1")})); err != nil {
		t.Fatal(err)
	}
	model := map[string]*invokeModel{}
	ages := rapid.SampledFrom([]*int32{nil, new(int32(60)), new(int32(21600))})
	retries := rapid.SampledFrom([]*int32{nil, new(int32(0)), new(int32(2))})
	sides := rapid.SampledFrom([]*string{nil, new(""), new("arn:aws:sqs:us-east-1:000000000000:q"), new(arnPrefix + "other"), new("arn:aws:events:us-east-1:000000000000:event-bus/default")})
	qualifiers := rapid.SampledFrom([]string{"$LATEST", "1", "live"})

	check := func(t *rapid.T, got *sdk.GetFunctionEventInvokeConfigOutput, q string, m *invokeModel) {
		have := &invokeModel{got.MaximumEventAgeInSeconds, got.MaximumRetryAttempts, str(got.DestinationConfig.OnSuccess.Destination), str(got.DestinationConfig.OnFailure.Destination)}
		if have.String() != m.String() || *got.FunctionArn != arnPrefix+"hello:"+q {
			t.Fatalf("%s: %v\nwant %v", *got.FunctionArn, have, m)
		}
	}
	step := func(t *rapid.T) {
		q := qualifiers.Draw(t, "qualifier")
		age, retry, success, failure := ages.Draw(t, "age"), retries.Draw(t, "retries"), sides.Draw(t, "success"), sides.Draw(t, "failure")
		var d *types.DestinationConfig
		if success != nil || failure != nil {
			d = &types.DestinationConfig{}
			if success != nil {
				d.OnSuccess = &types.OnSuccess{Destination: success}
			}
			if failure != nil {
				d.OnFailure = &types.OnFailure{Destination: failure}
			}
		}
		if age == nil && retry == nil && d == nil {
			age = new(int32(61))
		}
		apply := func(m invokeModel) *invokeModel {
			if age != nil {
				m.age = age
			}
			if retry != nil {
				m.retries = retry
			}
			if success != nil {
				m.success = *success
			}
			if failure != nil {
				m.failure = *failure
			}
			return &m
		}
		switch rapid.IntRange(0, 4).Draw(t, "operation") {
		case 0, 1:
			out, err := w.lambda.PutFunctionEventInvokeConfig(ctx, &sdk.PutFunctionEventInvokeConfigInput{
				FunctionName: new("hello"), Qualifier: &q, MaximumEventAgeInSeconds: age, MaximumRetryAttempts: retry, DestinationConfig: d,
			})
			if err != nil {
				t.Fatal(err)
			}
			model[q] = apply(invokeModel{})
			check(t, (*sdk.GetFunctionEventInvokeConfigOutput)(out), q, model[q])
		case 2, 3:
			out, err := w.lambda.UpdateFunctionEventInvokeConfig(ctx, &sdk.UpdateFunctionEventInvokeConfigInput{
				FunctionName: new("hello"), Qualifier: &q, MaximumEventAgeInSeconds: age, MaximumRetryAttempts: retry, DestinationConfig: d,
			})
			if model[q] == nil {
				if err == nil {
					t.Fatal("an update of nothing")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			model[q] = apply(*model[q])
			check(t, (*sdk.GetFunctionEventInvokeConfigOutput)(out), q, model[q])
		case 4:
			_, err := w.lambda.DeleteFunctionEventInvokeConfig(ctx, &sdk.DeleteFunctionEventInvokeConfigInput{FunctionName: new("hello"), Qualifier: &q})
			if (err == nil) != (model[q] != nil) {
				t.Fatal(err)
			}
			delete(model, q)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			step(t)
		}
		for _, q := range []string{"$LATEST", "1", "live"} {
			got, err := w.lambda.GetFunctionEventInvokeConfig(ctx, &sdk.GetFunctionEventInvokeConfigInput{FunctionName: new("hello"), Qualifier: &q})
			if (err == nil) != (model[q] != nil) {
				t.Fatalf("%s: %v", q, err)
			}
			if err == nil {
				check(t, got, q, model[q])
			}
		}
		listed := 0
		pages := sdk.NewListFunctionEventInvokeConfigsPaginator(w.lambda, &sdk.ListFunctionEventInvokeConfigsInput{FunctionName: new("hello"), MaxItems: new(int32(1))})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			listed += len(page.FunctionEventInvokeConfigs)
		}
		if listed != len(model) {
			t.Fatalf("%d are listed, of %d", listed, len(model))
		}
	})
}
