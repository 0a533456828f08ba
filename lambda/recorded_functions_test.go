package lambda

import (
	"bytes"
	"strings"

	"github.com/hearth-faas/hearth/registry"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

const (
	arnPrefix  = "arn:aws:lambda:us-east-1:000000000000:function:"
	otherStart = "arn:aws:lambda:ap-southeast-1:000000000000:function:"
)

func (p *provoker) tryCreate(edit func(*sdk.CreateFunctionInput)) {
	p.t.Helper()
	in := createInput("other")
	edit(in)
	p.try(failed(p.lambda.CreateFunction(p.t.Context(), in)))
}

func (p *provoker) tryGet(name, qualifier string) {
	p.t.Helper()
	p.try(failed(p.lambda.GetFunction(p.t.Context(), &sdk.GetFunctionInput{FunctionName: &name, Qualifier: optional(qualifier)})))
}

func provokeFunctions(p *provoker) {
	ctx := p.t.Context()
	p.create("hello")
	if err := failed(p.lambda.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: new("hello")})); err != nil {
		p.t.Fatal(err)
	}

	// Names and qualifiers.
	p.tryGet("doesnotexist", "")
	p.tryGet("doesnotexist", "1")
	p.tryGet("doesnotexist", "$LATEST")
	p.tryGet("some-function", "$LATEST")
	p.tryGet("arn:aws:lambda:us-east-1:111111111111:function:hello", "")
	p.tryGet("hello", "1221")
	p.tryGet("hello", "aliasdoesnotexist")
	p.tryGet("hello:1", "2")
	p.tryGet(otherStart+"hello", "")
	p.tryGet("arn:aws:lambda:us-east-1:123400000000@function:myfn", "")
	p.try(failed(p.lambda.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: new(arnPrefix + strings.Repeat("a", 150))})))
	p.tryGet("hello", "invalid-qualifier-with-?-char")
	p.tryGet("hello", "valid-with-$-but-doesnotexist")
	p.tryCreate(func(in *sdk.CreateFunctionInput) { in.FunctionName = new(strings.Repeat("a", 65)) })
	p.tryCreate(func(in *sdk.CreateFunctionInput) { in.FunctionName = new("invalid:function:name") })
	p.try(failed(p.lambda.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: new("hello:1")})))
	p.try(failed(p.lambda.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: new("hello"), Qualifier: new("$LATEST")})))
	p.try(failed(p.lambda.ListFunctions(ctx, &sdk.ListFunctionsInput{FunctionVersion: "invalid"})))

	// Configuration.
	p.tryCreate(func(in *sdk.CreateFunctionInput) { in.Role = new("r1") })
	for _, runtime := range []types.Runtime{"non-existent-runtime", "PYTHON3.9", "java8", "go1.x", "ruby2.7", "nodejs14.x", "python3.7", "dotnetcore3.1", "nodejs12.x"} {
		p.tryCreate(func(in *sdk.CreateFunctionInput) { in.Runtime = runtime })
	}
	p.tryCreate(func(in *sdk.CreateFunctionInput) { in.Architectures = []types.Architecture{"x86_64", "arm64"} })
	p.tryCreate(func(in *sdk.CreateFunctionInput) { in.Architectures = []types.Architecture{"X86_64"} })
	p.tryCreate(func(in *sdk.CreateFunctionInput) { in.SnapStart = &types.SnapStart{ApplyOn: "invalidOption"} })
	p.tryCreate(func(in *sdk.CreateFunctionInput) {
		in.Environment = &types.Environment{Variables: map[string]string{"LARGE_VAR": strings.Repeat("x", 4090)}}
	})
	p.tryCreate(func(in *sdk.CreateFunctionInput) {
		in.Environment = &types.Environment{Variables: map[string]string{"SMALL_VAR": "ok", "LARGE_VAR": strings.Repeat("x", 4090)}}
	})
	p.tryCreate(func(in *sdk.CreateFunctionInput) {
		in.VpcConfig = &types.VpcConfig{SubnetIds: []string{"not-a-subnet"}}
	})
	p.tryCreate(func(in *sdk.CreateFunctionInput) {
		in.VpcConfig = &types.VpcConfig{SecurityGroupIds: []string{"not-a-group"}}
	})

	// Code.
	p.tryCreate(func(in *sdk.CreateFunctionInput) { in.Code.ZipFile = []byte("no zip") })
	p.tryCreate(func(in *sdk.CreateFunctionInput) { in.Code.ZipFile = make([]byte, 53_000_000) })
	p.tryCreate(func(in *sdk.CreateFunctionInput) { in.Code.ZipFile = make([]byte, 52_428_801) })
	p.tryCreate(func(in *sdk.CreateFunctionInput) {
		in.Code.ZipFile = zipOf(p.t, map[string]string{"zeroes": string(bytes.Repeat([]byte{0}, 262_144_001))})
	})
	p.try(failed(p.lambda.UpdateFunctionCode(ctx, &sdk.UpdateFunctionCodeInput{FunctionName: new("hello"), ImageUri: new("image:latest")})))

	// While a change is in progress.
	release := p.registry.hold()
	if err := failed(p.registry.Registry.UpdateConfiguration(ctx, testAccount, "hello", registry.UpdateConfiguration{MemoryMiB: new(256)})); err != nil {
		p.t.Fatal(err)
	}
	p.try(failed(p.lambda.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: new("hello")})))
	release()
	if _, err := p.registry.settled(p.registry.Get(ctx, testAccount, "hello", "")); err != nil {
		p.t.Fatal(err)
	}

	// Versions.
	p.try(failed(p.lambda.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: new("hello"), RevisionId: new("another")})))
	p.try(failed(p.lambda.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: new("hello"), CodeSha256: new("somenonexistentsha256")})))
	p.try(failed(p.lambda.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: new("hello"), CodeSha256: new(strings.Repeat("a", 64))})))
	p.try(failed(p.lambda.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: new("doesnotexist")})))
}

func provokeAliases(p *provoker) {
	ctx := p.t.Context()
	p.create("hello")
	if err := failed(p.lambda.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: new("hello")})); err != nil {
		p.t.Fatal(err)
	}
	create := func(function, alias, version string, weights map[string]float64) error {
		in := &sdk.CreateAliasInput{FunctionName: &function, Name: &alias, FunctionVersion: &version}
		if weights != nil {
			in.RoutingConfig = &types.AliasRoutingConfiguration{AdditionalVersionWeights: weights}
		}
		return failed(p.lambda.CreateAlias(ctx, in))
	}
	if err := create("hello", "custom", "1", nil); err != nil {
		p.t.Fatal(err)
	}
	p.try(create("hello", "custom", "1", nil))
	p.try(create("hello", "2024", "1", nil))
	p.try(create("hello", "a", "1", map[string]float64{"1": 0.1, "2": 0.2}))
	p.try(create("hello", "a", "1", map[string]float64{"2": 2}))
	p.try(create("hello", "a", "1", map[string]float64{"2": -1}))
	p.try(create("hello", "a", "1", map[string]float64{"1": 0.5}))
	p.try(create("hello", "a", "10", nil))
	p.try(create("hello", "a", "$LATEST", map[string]float64{"1": 0.5}))
	p.try(create("hello", "a", "1", map[string]float64{"$LATEST": 0.5}))
	p.try(create("hello-unknown", "a", "1", nil))
	p.try(failed(p.lambda.GetAlias(ctx, &sdk.GetAliasInput{FunctionName: new("hello"), Name: new("non-existent")})))
	p.try(failed(p.lambda.UpdateAlias(ctx, &sdk.UpdateAliasInput{FunctionName: new("hello"), Name: new("non-existent")})))
	p.try(failed(p.lambda.UpdateAlias(ctx, &sdk.UpdateAliasInput{FunctionName: new("hello"), Name: new("custom"), RevisionId: new("another")})))
}

func provokeInvocations(p *provoker) {
	ctx := p.t.Context()
	p.try(failed(p.lambda.Invoke(ctx, &sdk.InvokeInput{FunctionName: new("doesnotexist")})))
	p.try(failed(p.lambda.Invoke(ctx, &sdk.InvokeInput{FunctionName: new("hello:1"), Qualifier: new("2")})))
}

func provokeTags(p *provoker) {
	ctx := p.t.Context()
	arn := *p.create("hello").FunctionArn
	list := func(arn string) { p.try(failed(p.lambda.ListTags(ctx, &sdk.ListTagsInput{Resource: &arn}))) }
	tag := func(arn string, tags map[string]string) {
		p.try(failed(p.lambda.TagResource(ctx, &sdk.TagResourceInput{Resource: &arn, Tags: tags})))
	}
	list("arn:aws:something")
	list(arnPrefix + "doesnotexist")
	list(arn + ":1")
	list("arn:aws:lambda:us-east-1:000000000000:foobar:hello")
	tag(arn, map[string]string{})
	many := map[string]string{}
	for i := range 51 {
		many["k"+strings.Repeat("x", i)] = ""
	}
	tag(arn, many)
	p.try(failed(p.lambda.UntagResource(ctx, &sdk.UntagResourceInput{Resource: &arn, TagKeys: []string{}})))
}
