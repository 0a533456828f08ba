package lambda

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

const layerPrefix = "arn:aws:lambda:us-east-1:000000000000:layer:"

func (w *world) publish(name string, edit func(*sdk.PublishLayerVersionInput)) *sdk.PublishLayerVersionOutput {
	w.t.Helper()
	in := &sdk.PublishLayerVersionInput{LayerName: &name, Content: &types.LayerVersionContentInput{ZipFile: anyZip}}
	if edit != nil {
		edit(in)
	}
	out, err := w.lambda.PublishLayerVersion(w.t.Context(), in)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func provokeLayers(p *provoker) {
	ctx := p.t.Context()
	p.publish("l", nil)
	p.publish("l", nil)
	tryGet := func(name string, version int64) {
		p.t.Helper()
		p.try(failed(p.lambda.GetLayerVersion(ctx, &sdk.GetLayerVersionInput{LayerName: &name, VersionNumber: &version})))
	}
	tryGet("l", 0)
	tryGet("l", 3)
	tryGet("doesnotexist", 1)
	tryGet("arn:aws:lambda:eu-west-1:000000000000:layer:l", 1)
	tryGet("arn:aws:lambda:us-east-1:111111111111:layer:l", 1)
	p.try(failed(p.lambda.GetLayerVersionByArn(ctx, &sdk.GetLayerVersionByArnInput{Arn: new(layerPrefix + "l")})))
	p.try(failed(p.lambda.GetLayerVersionByArn(ctx, &sdk.GetLayerVersionByArnInput{Arn: new(layerPrefix + "l:9")})))
	p.try(failed(p.lambda.DeleteLayerVersion(ctx, &sdk.DeleteLayerVersionInput{LayerName: new("l"), VersionNumber: new(int64(0))})))
	p.try(failed(p.lambda.ListLayers(ctx, &sdk.ListLayersInput{CompatibleRuntime: "runtimedoesnotexist"})))
	p.try(failed(p.lambda.ListLayerVersions(ctx, &sdk.ListLayerVersionsInput{LayerName: new("l"), CompatibleRuntime: "runtimedoesnotexist"})))
	p.try(failed(p.lambda.ListLayers(ctx, &sdk.ListLayersInput{CompatibleArchitecture: "archdoesnotexist"})))
	p.try(failed(p.lambda.ListLayerVersions(ctx, &sdk.ListLayerVersionsInput{LayerName: new("arn:aws:lambda:us-east-1:111111111111:layer:l")})))
	for _, runtimes := range [][]types.Runtime{{"invalidruntime"}, {"invalidruntime", "invalidruntime2", "nodejs20.x"}} {
		p.try(failed(p.lambda.PublishLayerVersion(ctx, &sdk.PublishLayerVersionInput{
			LayerName: new("l"), Content: &types.LayerVersionContentInput{ZipFile: anyZip},
			CompatibleRuntimes: runtimes, CompatibleArchitectures: []types.Architecture{"invalidarch"},
		})))
	}
	p.try(failed(p.lambda.PublishLayerVersion(ctx, &sdk.PublishLayerVersionInput{LayerName: new("l"), Content: &types.LayerVersionContentInput{ZipFile: []byte("no zip")}})))

	// Policies. The recordings name version 2 where there was one only.
	p.publish("one", nil)
	add := func(edit func(*sdk.AddLayerVersionPermissionInput)) error {
		in := &sdk.AddLayerVersionPermissionInput{LayerName: new("l"), VersionNumber: new(int64(1)), StatementId: new("s1"), Action: new("lambda:GetLayerVersion"), Principal: new("*")}
		if edit != nil {
			edit(in)
		}
		return failed(p.lambda.AddLayerVersionPermission(ctx, in))
	}
	getPolicy := func(name string, version int64) {
		p.t.Helper()
		p.try(failed(p.lambda.GetLayerVersionPolicy(ctx, &sdk.GetLayerVersionPolicyInput{LayerName: &name, VersionNumber: &version})))
	}
	remove := func(name string, version int64, sid string, revision *string) {
		p.t.Helper()
		p.try(failed(p.lambda.RemoveLayerVersionPermission(ctx, &sdk.RemoveLayerVersionPermissionInput{LayerName: &name, VersionNumber: &version, StatementId: &sid, RevisionId: revision})))
	}
	getPolicy("l", 1)
	getPolicy("l-doesnotexist", 1)
	remove("l", 1, "s1", nil)
	p.try(add(func(in *sdk.AddLayerVersionPermissionInput) { in.Action = new("*") }))
	if err := add(nil); err != nil {
		p.t.Fatal(err)
	}
	p.try(add(nil))
	p.try(add(func(in *sdk.AddLayerVersionPermissionInput) { in.StatementId, in.RevisionId = new("s2"), new("wrong") }))
	p.try(add(func(in *sdk.AddLayerVersionPermissionInput) { in.LayerName = new("l-doesnotexist") }))
	p.try(add(func(in *sdk.AddLayerVersionPermissionInput) {
		in.LayerName, in.VersionNumber = new("one"), new(int64(2))
	}))
	remove("l", 1, "doesnotexist", nil)
	remove("l", 1, "s1", new("wrong"))
	remove("one", 2, "s1", nil)

	// Functions with layers.
	p.create("hello")
	use := func(arns ...string) {
		p.t.Helper()
		p.tryCreate(func(in *sdk.CreateFunctionInput) { in.Layers = arns })
		p.try(failed(p.lambda.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: new("hello"), Layers: arns})))
	}
	use(layerPrefix+"l:1", layerPrefix+"l:2")
	use(layerPrefix+"l:1", layerPrefix+"l:1")
	use(layerPrefix + "doesnotexist:1")
	use(layerPrefix + "l:9")
	use(layerPrefix + "l")
	use("arn:aws:lambda:eu-west-1:000000000000:layer:l:1")
	use("arn:aws:lambda:us-east-1:111111111111:layer:l:1")
	use(layerPrefix+"a:1", layerPrefix+"b:1", layerPrefix+"c:1", layerPrefix+"d:1", layerPrefix+"e:1", layerPrefix+"f:1")
}

func TestALayerVersionIsPublishedShownAndDeleted(t *testing.T) {
	w := newNeighbours(t)
	ctx := t.Context()
	made := w.publish("l", func(in *sdk.PublishLayerVersionInput) {
		in.Description, in.LicenseInfo = new("d"), new("MIT")
		in.CompatibleRuntimes = []types.Runtime{"python3.12", "nodejs20.x"}
		in.CompatibleArchitectures = []types.Architecture{"x86_64"}
	})
	if *made.LayerArn != layerPrefix+"l" || *made.LayerVersionArn != layerPrefix+"l:1" || made.Version != 1 || *made.Description != "d" ||
		*made.LicenseInfo != "MIT" || len(made.CompatibleRuntimes) != 2 || len(made.CompatibleArchitectures) != 1 ||
		*made.CreatedDate != testNow.Format(layerTime) || made.Content.CodeSize != int64(len(anyZip)) || *made.Content.CodeSha256 != codeSHA256(sha256Hex(anyZip)) {
		t.Errorf("published %+v", made)
	}
	if second := w.publish("l", func(in *sdk.PublishLayerVersionInput) { in.Content.ZipFile = otherZip }); second.Version != 2 {
		t.Errorf("the second version is %d", second.Version)
	}
	got, err := w.lambda.GetLayerVersion(ctx, &sdk.GetLayerVersionInput{LayerName: new(layerPrefix + "l"), VersionNumber: new(int64(1))})
	if err != nil {
		t.Fatal(err)
	}
	byARN, err := w.lambda.GetLayerVersionByArn(ctx, &sdk.GetLayerVersionByArnInput{Arn: made.LayerVersionArn})
	if err != nil || *byARN.LayerVersionArn != *made.LayerVersionArn || *byARN.LicenseInfo != "MIT" || *got.Description != "d" {
		t.Fatal(byARN, err)
	}
	for _, url := range []string{*got.Content.Location, *byARN.Content.Location, *made.Content.Location} {
		r, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		if err := r.Body.Close(); err != nil {
			t.Error(err)
		}
		if err != nil || !bytes.Equal(body, anyZip) {
			t.Errorf("the download is %d bytes of status %d, %v", len(body), r.StatusCode, err)
		}
	}
	usage := func() int64 {
		t.Helper()
		s, err := w.lambda.GetAccountSettings(ctx, &sdk.GetAccountSettingsInput{})
		if err != nil {
			t.Fatal(err)
		}
		return s.AccountUsage.TotalCodeSize
	}
	if n := usage(); n != int64(len(anyZip)+len(otherZip)) {
		t.Errorf("the account's code is %d bytes", n)
	}
	for range 2 { // it is gone the second time, which is no error
		if _, err := w.lambda.DeleteLayerVersion(ctx, &sdk.DeleteLayerVersionInput{LayerName: new("l"), VersionNumber: new(int64(2))}); err != nil {
			t.Fatal(err)
		}
	}
	if third := w.publish("l", nil); third.Version != 3 || usage() != int64(2*len(anyZip)) {
		t.Errorf("after a deletion version %d was made, and the code is %d bytes", third.Version, usage())
	}
}

func TestLayersAreListedByWhatTheyAreForAndByPages(t *testing.T) {
	w := newNeighbours(t)
	ctx := t.Context()
	for name, versions := range map[string][]string{
		"a": {"python3.12 x86_64", "nodejs20.x arm64", "-"}, "b": {"python3.12 arm64", "python3.12 x86_64"}, "c": {"-"},
	} {
		for _, v := range versions {
			w.publish(name, func(in *sdk.PublishLayerVersionInput) {
				if runtime, arch, ok := strings.Cut(v, " "); ok {
					in.CompatibleRuntimes = []types.Runtime{types.Runtime(runtime)}
					in.CompatibleArchitectures = []types.Architecture{types.Architecture(arch)}
				}
			})
		}
	}
	for i := range 60 {
		w.publish("many", func(in *sdk.PublishLayerVersionInput) { in.Description = new(fmt.Sprint(i)) })
	}
	list := func(runtime types.Runtime, arch types.Architecture, page *int32) string {
		t.Helper()
		var all []string
		for marker := (*string)(nil); ; {
			out, err := w.lambda.ListLayers(ctx, &sdk.ListLayersInput{CompatibleRuntime: runtime, CompatibleArchitecture: arch, MaxItems: page, Marker: marker})
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range out.Layers {
				all = append(all, fmt.Sprint(*l.LayerName, l.LatestMatchingVersion.Version))
			}
			if marker = out.NextMarker; marker == nil {
				return strings.Join(all, " ")
			}
		}
	}
	for _, page := range []*int32{nil, new(int32(1)), new(int32(2)), new(int32(50))} {
		if got := list("", "", page); got != "a3 b2 c1 many60" {
			t.Errorf("all layers: %s", got)
		}
		if got := list("python3.12", "", page); got != "a1 b2" {
			t.Errorf("layers for python: %s", got)
		}
		if got := list("", "arm64", page); got != "a2 b1" {
			t.Errorf("layers for arm: %s", got)
		}
		if got := list("python3.12", "arm64", page); got != "b1" {
			t.Errorf("layers for python on arm: %s", got)
		}
	}
	versions := func(name string, runtime types.Runtime, page *int32) (all []int64) {
		t.Helper()
		for marker := (*string)(nil); ; {
			out, err := w.lambda.ListLayerVersions(ctx, &sdk.ListLayerVersionsInput{LayerName: &name, CompatibleRuntime: runtime, MaxItems: page, Marker: marker})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range out.LayerVersions {
				all = append(all, v.Version)
			}
			if marker = out.NextMarker; marker == nil {
				return all
			}
		}
	}
	if got := versions("a", "nodejs20.x", nil); !slices.Equal(got, []int64{2}) {
		t.Errorf("versions for node: %v", got)
	}
	if got := versions("none", "", nil); got != nil {
		t.Errorf("versions of no layer: %v", got)
	}
	for _, page := range []*int32{nil, new(int32(7))} {
		got := versions("many", "", page)
		if len(got) != 60 || got[0] != 60 || got[59] != 1 || !slices.IsSortedFunc(got, func(a, b int64) int { return int(b - a) }) {
			t.Errorf("versions of a layer with many: %v", got)
		}
	}
	_, err := w.lambda.ListLayerVersions(ctx, &sdk.ListLayerVersionsInput{LayerName: new("a"), Marker: new("?")})
	wantError(t, err, "InvalidParameterValueException", "marker")
}

func TestAnotherAccountsLayerIsUsedOnlyIfItsPolicyAllowsIt(t *testing.T) {
	w := newNeighbours(t)
	ctx := t.Context()
	arn := *w.publish("l", nil).LayerVersionArn
	other := w.as(neighbour)
	create := func(name string) error {
		in := createInput(name)
		in.Layers = []string{arn}
		return failed(other.CreateFunction(ctx, in))
	}
	get := func() error {
		return failed(other.GetLayerVersionByArn(ctx, &sdk.GetLayerVersionByArnInput{Arn: &arn}))
	}
	const denied = "User: arn:aws:iam::111111111111:root is not authorized to perform: lambda:GetLayerVersion on resource: " + layerPrefix + "l:1 because no resource-based policy allows the lambda:GetLayerVersion action"
	wantError(t, create("f"), "AccessDeniedException", denied)
	wantError(t, get(), "AccessDeniedException", denied)
	missing := failed(other.GetLayerVersionByArn(ctx, &sdk.GetLayerVersionByArnInput{Arn: new(layerPrefix + "none:1")}))
	wantError(t, missing, "AccessDeniedException", "lambda:GetLayerVersion on resource: "+layerPrefix+"none:1")
	for _, principal := range []string{neighbour, "*", "arn:aws:iam::111111111111:root"} {
		out, err := w.lambda.AddLayerVersionPermission(ctx, &sdk.AddLayerVersionPermissionInput{
			LayerName: new("l"), VersionNumber: new(int64(1)), StatementId: new("s"), Action: new("lambda:GetLayerVersion"), Principal: &principal,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := create("f" + fmt.Sprint(len(principal))); err != nil {
			t.Errorf("%s: %v", principal, err)
		}
		if err := get(); err != nil {
			t.Errorf("%s: %v", principal, err)
		}
		p, err := w.lambda.GetLayerVersionPolicy(ctx, &sdk.GetLayerVersionPolicyInput{LayerName: new("l"), VersionNumber: new(int64(1))})
		if err != nil || *p.RevisionId != *out.RevisionId || *p.Policy != `{"Version":"2012-10-17","Id":"default","Statement":[`+*out.Statement+`]}` {
			t.Errorf("%s: the policy is %v, %v", principal, p, err)
		}
		_, err = other.GetLayerVersionPolicy(ctx, &sdk.GetLayerVersionPolicyInput{LayerName: new(layerPrefix + "l"), VersionNumber: new(int64(1))})
		wantError(t, err, "AccessDeniedException", "lambda:GetLayerVersionPolicy on resource: "+arn)
		if _, err := w.lambda.RemoveLayerVersionPermission(ctx, &sdk.RemoveLayerVersionPermissionInput{
			LayerName: new("l"), VersionNumber: new(int64(1)), StatementId: new("s"), RevisionId: out.RevisionId,
		}); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, create("g"), "AccessDeniedException", denied)
	_, err := w.lambda.AddLayerVersionPermission(ctx, &sdk.AddLayerVersionPermissionInput{
		LayerName: new("l"), VersionNumber: new(int64(1)), StatementId: new("s"), Action: new("lambda:GetLayerVersion"), Principal: new("*"), OrganizationId: new("o-1234567890"),
	})
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, get(), "AccessDeniedException", denied) // no account is of an organization here
}
