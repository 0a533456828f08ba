package lambda

import (
	"reflect"
	"regexp"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

func TestAFunctionsURLLivesAndIsChanged(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	ctx := t.Context()
	created, err := w.lambda.CreateFunctionUrlConfig(ctx, &sdk.CreateFunctionUrlConfigInput{
		FunctionName: new("hello"), AuthType: types.FunctionUrlAuthTypeNone,
		Cors: &types.Cors{AllowOrigins: []string{"*"}, AllowMethods: []string{"GET"}, MaxAge: new(int32(5)), AllowCredentials: new(false)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^https://[a-z2-7]{32}\.lambda-url\.us-east-1\.on\.aws/$`).MatchString(*created.FunctionUrl) ||
		*created.FunctionArn != "arn:aws:lambda:us-east-1:000000000000:function:hello" || created.InvokeMode != types.InvokeModeBuffered ||
		*created.CreationTime != testNow.Format("2006-01-02T15:04:05.000000Z") {
		t.Errorf("%+v", created)
	}
	_, err = w.lambda.CreateFunctionUrlConfig(ctx, &sdk.CreateFunctionUrlConfigInput{FunctionName: new("hello"), AuthType: types.FunctionUrlAuthTypeNone})
	wantError(t, err, "ResourceConflictException", "Failed to create function url config for [functionArn = arn:aws:lambda:us-east-1:000000000000:function:hello]. Error message:  FunctionUrlConfig exists for this Lambda function")

	get := func() *sdk.GetFunctionUrlConfigOutput {
		t.Helper()
		got, err := w.lambda.GetFunctionUrlConfig(ctx, &sdk.GetFunctionUrlConfigInput{FunctionName: new("hello")})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := get(); *got.FunctionUrl != *created.FunctionUrl || *got.LastModifiedTime != *created.CreationTime || *got.Cors.MaxAge != 5 || *got.Cors.AllowCredentials {
		t.Errorf("%+v", got)
	}
	update := func(in sdk.UpdateFunctionUrlConfigInput) *sdk.UpdateFunctionUrlConfigOutput {
		t.Helper()
		w.clock.Advance(time.Second)
		in.FunctionName = new("hello")
		out, err := w.lambda.UpdateFunctionUrlConfig(ctx, &in)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	// One member changes, the others stay.
	if out := update(sdk.UpdateFunctionUrlConfigInput{InvokeMode: types.InvokeModeResponseStream}); out.InvokeMode != types.InvokeModeResponseStream ||
		out.AuthType != types.FunctionUrlAuthTypeNone || out.Cors == nil || *out.LastModifiedTime == *out.CreationTime {
		t.Errorf("%+v", out)
	}
	// Cors is replaced as a whole, and cleared by an empty one.
	if out := update(sdk.UpdateFunctionUrlConfigInput{Cors: &types.Cors{ExposeHeaders: []string{"a"}}}); out.Cors.MaxAge != nil || out.Cors.AllowOrigins != nil || out.Cors.ExposeHeaders[0] != "a" {
		t.Errorf("%+v", out.Cors)
	}
	if out := update(sdk.UpdateFunctionUrlConfigInput{Cors: &types.Cors{}, AuthType: types.FunctionUrlAuthTypeAwsIam}); out.Cors != nil || out.AuthType != types.FunctionUrlAuthTypeAwsIam {
		t.Errorf("%+v", out)
	}
	if got := get(); got.Cors != nil || got.AuthType != types.FunctionUrlAuthTypeAwsIam || *got.FunctionUrl != *created.FunctionUrl {
		t.Errorf("%+v", got)
	}
	if _, err := w.lambda.DeleteFunctionUrlConfig(ctx, &sdk.DeleteFunctionUrlConfigInput{FunctionName: new("hello")}); err != nil {
		t.Fatal(err)
	}
	_, err = w.lambda.GetFunctionUrlConfig(ctx, &sdk.GetFunctionUrlConfigInput{FunctionName: new("hello")})
	wantError(t, err, "ResourceNotFoundException", "The resource you requested does not exist.")
	_, err = w.lambda.DeleteFunctionUrlConfig(ctx, &sdk.DeleteFunctionUrlConfigInput{FunctionName: new("hello")})
	wantError(t, err, "ResourceNotFoundException", "The resource you requested does not exist.")
	_, err = w.lambda.UpdateFunctionUrlConfig(ctx, &sdk.UpdateFunctionUrlConfigInput{FunctionName: new("hello")})
	wantError(t, err, "ResourceNotFoundException", "The resource you requested does not exist.")
}

func TestAnAliasHasAURLOfItsOwnAndAVersionHasNone(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	ctx := t.Context()
	if _, err := w.lambda.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: new("hello")}); err != nil {
		t.Fatal(err)
	}
	var urls []string
	for _, alias := range []string{"live", "beta"} {
		if _, err := w.lambda.CreateAlias(ctx, &sdk.CreateAliasInput{FunctionName: new("hello"), Name: &alias, FunctionVersion: new("1")}); err != nil {
			t.Fatal(err)
		}
		out, err := w.lambda.CreateFunctionUrlConfig(ctx, &sdk.CreateFunctionUrlConfigInput{FunctionName: new("hello"), Qualifier: &alias, AuthType: types.FunctionUrlAuthTypeAwsIam})
		if err != nil {
			t.Fatal(err)
		}
		if *out.FunctionArn != "arn:aws:lambda:us-east-1:000000000000:function:hello:"+alias {
			t.Errorf("%+v", out)
		}
		urls = append(urls, *out.FunctionUrl)
	}
	out, err := w.lambda.CreateFunctionUrlConfig(ctx, &sdk.CreateFunctionUrlConfigInput{FunctionName: new("hello"), AuthType: types.FunctionUrlAuthTypeNone})
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	pages := sdk.NewListFunctionUrlConfigsPaginator(w.lambda, &sdk.ListFunctionUrlConfigsInput{FunctionName: new("hello"), MaxItems: new(int32(1))})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range page.FunctionUrlConfigs {
			listed = append(listed, *u.FunctionUrl)
		}
	}
	if want := []string{*out.FunctionUrl, urls[1], urls[0]}; !reflect.DeepEqual(listed, want) {
		t.Errorf("listed %v, want %v", listed, want)
	}
	create := func(name, qualifier string) error {
		in := &sdk.CreateFunctionUrlConfigInput{FunctionName: &name, AuthType: types.FunctionUrlAuthTypeNone}
		if qualifier != "" {
			in.Qualifier = &qualifier
		}
		_, err := w.lambda.CreateFunctionUrlConfig(ctx, in)
		return err
	}
	const pattern = `failed to satisfy constraint: Member must satisfy regular expression pattern: ((?!^\d+$)^[0-9a-zA-Z-_]+$)`
	wantError(t, create("hello", "1"), "ValidationException", "1 validation error detected: Value '1' at 'qualifier' "+pattern)
	wantError(t, create("hello", "$LATEST"), "ValidationException", "1 validation error detected: Value '$LATEST' at 'qualifier' "+pattern)
	wantError(t, create("hello:1", ""), "ResourceNotFoundException", "Function does not exist")
	wantError(t, create("hello", "other"), "ResourceNotFoundException", "Function does not exist")
	wantError(t, create("nobody", ""), "ResourceNotFoundException", "Function does not exist")
	_, err = w.lambda.ListFunctionUrlConfigs(ctx, &sdk.ListFunctionUrlConfigsInput{FunctionName: new("nobody")})
	wantError(t, err, "ResourceNotFoundException", "Function does not exist")
	_, err = w.lambda.CreateFunctionUrlConfig(ctx, &sdk.CreateFunctionUrlConfigInput{
		FunctionName: new("hello"), AuthType: types.FunctionUrlAuthTypeNone, Cors: &types.Cors{AllowMethods: []string{"FETCH"}},
	})
	wantError(t, err, "InvalidParameterValueException", "FETCH")
	if _, err := w.lambda.DeleteAlias(ctx, &sdk.DeleteAliasInput{FunctionName: new("hello"), Name: new("live")}); err != nil {
		t.Fatal(err)
	}
	_, err = w.lambda.GetFunctionUrlConfig(ctx, &sdk.GetFunctionUrlConfigInput{FunctionName: new("hello"), Qualifier: new("live")})
	wantError(t, err, "ResourceNotFoundException", "Function does not exist")
}

func provokeURLs(p *provoker) {
	w, ctx := p.world, p.t.Context()
	w.create("hello")
	create := func(name string, qualifier *string) error {
		return failed(w.lambda.CreateFunctionUrlConfig(ctx, &sdk.CreateFunctionUrlConfigInput{
			FunctionName: &name, Qualifier: qualifier, AuthType: types.FunctionUrlAuthTypeNone,
		}))
	}
	for _, version := range []string{"1", "2", "$LATEST"} {
		p.try(create("hello", &version))
	}
	p.try(create("nobody", nil))
	p.try(failed(w.lambda.GetFunctionUrlConfig(ctx, &sdk.GetFunctionUrlConfigInput{FunctionName: new("hello")})))
	if err := create("hello", nil); err != nil {
		p.t.Fatal(err)
	}
	p.try(create("hello", nil))
}
