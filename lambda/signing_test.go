package lambda

import (
	"archive/zip"
	"bytes"
	"crypto"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/signing"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

const noConfig = "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-aaaaaaaaaaaaaaaaa"

func provokeCodeSigning(p *provoker) {
	ctx := p.t.Context()
	p.create("hello")
	p.try(failed(p.lambda.GetFunctionCodeSigningConfig(ctx, &sdk.GetFunctionCodeSigningConfigInput{FunctionName: new("csc-test-doesnotexist")})))
	p.try(failed(p.lambda.PutFunctionCodeSigningConfig(ctx, &sdk.PutFunctionCodeSigningConfigInput{FunctionName: new("csc-test-doesnotexist"), CodeSigningConfigArn: new(noConfig)})))
	p.try(failed(p.lambda.PutFunctionCodeSigningConfig(ctx, &sdk.PutFunctionCodeSigningConfigInput{FunctionName: new("hello"), CodeSigningConfigArn: new(noConfig)})))
	p.tryCreate(func(in *sdk.CreateFunctionInput) { in.CodeSigningConfigArn = new(noConfig) })
	p.try(failed(p.lambda.GetCodeSigningConfig(ctx, &sdk.GetCodeSigningConfigInput{CodeSigningConfigArn: new(noConfig)})))
	p.try(failed(p.lambda.UpdateCodeSigningConfig(ctx, &sdk.UpdateCodeSigningConfigInput{CodeSigningConfigArn: new(noConfig)})))
	p.try(failed(p.lambda.DeleteCodeSigningConfig(ctx, &sdk.DeleteCodeSigningConfigInput{CodeSigningConfigArn: new(noConfig)})))
	p.try(failed(p.lambda.ListFunctionsByCodeSigningConfig(ctx, &sdk.ListFunctionsByCodeSigningConfigInput{CodeSigningConfigArn: new(noConfig)})))
}

// publisher signs archives for a profile that the world's server knows.
type publisher struct {
	arn string
	key crypto.Signer
}

func (w *world) publisher() publisher {
	w.t.Helper()
	secret, cert, err := signing.NewKey("team", testNow, 365*24*time.Hour)
	p := publisher{}
	if err == nil {
		p.arn, err = w.registry.profiles.Add("team", cert)
	}
	var kerr error
	p.key, kerr = signing.ParseKey(secret)
	if err := errors.Join(err, kerr); err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) sign(p publisher, archive []byte) []byte {
	w.t.Helper()
	signed, err := signing.Sign(w.t.Context(), archive, signing.Request{Profile: p.arn, Account: string(testAccount), Region: "us-east-1", Key: p.key, Now: testNow, Valid: time.Hour})
	if err != nil {
		w.t.Fatal(err)
	}
	return signed
}

func TestOnlySignedCodeIsDeployedWhereThatIsEnforced(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	p, stranger := w.publisher(), w.publisher()
	config := func(policy types.CodeSigningPolicy) string {
		out, err := w.lambda.CreateCodeSigningConfig(ctx, &sdk.CreateCodeSigningConfigInput{
			AllowedPublishers:   &types.AllowedPublishers{SigningProfileVersionArns: []string{p.arn}},
			CodeSigningPolicies: &types.CodeSigningPolicies{UntrustedArtifactOnDeployment: policy},
		})
		if err != nil {
			t.Fatal(err)
		}
		return *out.CodeSigningConfig.CodeSigningConfigArn
	}
	signed := w.sign(p, anyZip)
	// A signature over other code.
	tampered := zipOf(t, map[string]string{"app.py": "evil", signing.File: signatureIn(t, signed)})
	for _, c := range []struct {
		what    string
		archive []byte
		policy  types.CodeSigningPolicy
		kind    string // "" is deployed
		by      string
	}{
		{"signed, enforced", signed, types.CodeSigningPolicyEnforce, "", p.arn},
		{"unsigned, enforced", anyZip, types.CodeSigningPolicyEnforce, "CodeVerificationFailedException", ""},
		{"by a stranger, enforced", w.sign(stranger, anyZip), types.CodeSigningPolicyEnforce, "CodeVerificationFailedException", ""},
		{"tampered with, enforced", tampered, types.CodeSigningPolicyEnforce, "InvalidCodeSignatureException", ""},
		{"signed, warned", signed, types.CodeSigningPolicyWarn, "", p.arn},
		{"unsigned, warned", anyZip, types.CodeSigningPolicyWarn, "", ""},
		{"tampered with, warned", tampered, types.CodeSigningPolicyWarn, "InvalidCodeSignatureException", ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			arn := config(c.policy)
			in := createInput("hello")
			in.Code.ZipFile, in.CodeSigningConfigArn = c.archive, &arn
			made, err := w.lambda.CreateFunction(ctx, in)
			if c.kind != "" {
				wantError(t, err, c.kind, "")
				in.Code.ZipFile = signed // updates must be checked too
				if _, err = w.lambda.CreateFunction(ctx, in); err != nil {
					t.Fatal(err)
				}
				_, err = w.lambda.UpdateFunctionCode(ctx, &sdk.UpdateFunctionCodeInput{FunctionName: new("hello"), ZipFile: c.archive})
				wantError(t, err, c.kind, "")
			} else if err != nil {
				t.Fatal(err)
			} else if str(made.SigningProfileVersionArn) != c.by || (c.by == "") != (made.SigningJobArn == nil) {
				t.Errorf("signed by %q, job %q", str(made.SigningProfileVersionArn), str(made.SigningJobArn))
			}
			_, err = w.lambda.DeleteCodeSigningConfig(ctx, &sdk.DeleteCodeSigningConfigInput{CodeSigningConfigArn: &arn})
			wantError(t, err, "ResourceConflictException", "is in use")
			if _, err := w.lambda.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: new("hello")}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.lambda.DeleteCodeSigningConfig(ctx, &sdk.DeleteCodeSigningConfigInput{CodeSigningConfigArn: &arn}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestALayerOfASignedFunctionMustBeSigned(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	p := w.publisher()
	out, err := w.lambda.CreateCodeSigningConfig(ctx, &sdk.CreateCodeSigningConfigInput{
		AllowedPublishers:   &types.AllowedPublishers{SigningProfileVersionArns: []string{p.arn}},
		CodeSigningPolicies: &types.CodeSigningPolicies{UntrustedArtifactOnDeployment: types.CodeSigningPolicyEnforce},
	})
	if err != nil {
		t.Fatal(err)
	}
	layer := func(archive []byte) []string {
		l, err := w.lambda.PublishLayerVersion(ctx, &sdk.PublishLayerVersionInput{LayerName: new("lib"), Content: &types.LayerVersionContentInput{ZipFile: archive}})
		if err != nil {
			t.Fatal(err)
		}
		return []string{*l.LayerVersionArn}
	}
	plain, signed := layer(otherZip), layer(w.sign(p, otherZip))
	in := createInput("hello")
	in.Code.ZipFile, in.CodeSigningConfigArn, in.Layers = w.sign(p, anyZip), out.CodeSigningConfig.CodeSigningConfigArn, plain
	_, err = w.lambda.CreateFunction(ctx, in)
	wantError(t, err, "CodeVerificationFailedException", plain[0])
	in.Layers = signed
	if _, err = w.lambda.CreateFunction(ctx, in); err != nil {
		t.Fatal(err)
	}
	_, err = w.lambda.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: new("hello"), Layers: plain})
	wantError(t, err, "CodeVerificationFailedException", plain[0])
}

func TestSigningConfigsAreMadeChangedListedAndPutOnFunctions(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	fn := *w.create("hello").FunctionArn
	profile := "arn:aws:signer:us-east-1:000000000000:/signing-profiles/team/ABCDEFGHIJ"
	made, err := w.lambda.CreateCodeSigningConfig(ctx, &sdk.CreateCodeSigningConfigInput{
		AllowedPublishers: &types.AllowedPublishers{SigningProfileVersionArns: []string{profile}}, Description: new("ours"), Tags: map[string]string{"a": "b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	arn := made.CodeSigningConfig.CodeSigningConfigArn
	if made.CodeSigningConfig.CodeSigningPolicies.UntrustedArtifactOnDeployment != types.CodeSigningPolicyWarn {
		t.Error("the policy is not Warn unless told otherwise")
	}
	updated, err := w.lambda.UpdateCodeSigningConfig(ctx, &sdk.UpdateCodeSigningConfigInput{
		CodeSigningConfigArn: arn, CodeSigningPolicies: &types.CodeSigningPolicies{UntrustedArtifactOnDeployment: types.CodeSigningPolicyEnforce},
	})
	if err != nil || *updated.CodeSigningConfig.Description != "ours" || updated.CodeSigningConfig.AllowedPublishers.SigningProfileVersionArns[0] != profile {
		t.Fatalf("%+v %v", updated, err)
	}
	if _, err := w.lambda.UpdateCodeSigningConfig(ctx, &sdk.UpdateCodeSigningConfigInput{CodeSigningConfigArn: arn, Description: new("")}); err != nil {
		t.Fatal(err)
	}
	got, err := w.lambda.GetCodeSigningConfig(ctx, &sdk.GetCodeSigningConfigInput{CodeSigningConfigArn: arn})
	if err != nil || *got.CodeSigningConfig.Description != "" || got.CodeSigningConfig.CodeSigningPolicies.UntrustedArtifactOnDeployment != types.CodeSigningPolicyEnforce {
		t.Fatalf("%+v %v", got, err)
	}
	tags, err := w.lambda.ListTags(ctx, &sdk.ListTagsInput{Resource: arn})
	if err != nil || tags.Tags["a"] != "b" {
		t.Errorf("%v %v", tags, err)
	}
	list, err := w.lambda.ListCodeSigningConfigs(ctx, &sdk.ListCodeSigningConfigsInput{})
	if err != nil || len(list.CodeSigningConfigs) != 1 {
		t.Errorf("%v %v", list, err)
	}
	put, err := w.lambda.PutFunctionCodeSigningConfig(ctx, &sdk.PutFunctionCodeSigningConfigInput{FunctionName: new("hello"), CodeSigningConfigArn: arn})
	if err != nil || *put.CodeSigningConfigArn != *arn || *put.FunctionName != "hello" {
		t.Fatalf("%+v %v", put, err)
	}
	under, err := w.lambda.ListFunctionsByCodeSigningConfig(ctx, &sdk.ListFunctionsByCodeSigningConfigInput{CodeSigningConfigArn: arn})
	if err != nil || len(under.FunctionArns) != 1 || under.FunctionArns[0] != fn {
		t.Errorf("%v %v", under, err)
	}
	if _, err := w.lambda.DeleteFunctionCodeSigningConfig(ctx, &sdk.DeleteFunctionCodeSigningConfigInput{FunctionName: new("hello")}); err != nil {
		t.Fatal(err)
	}
	of, err := w.lambda.GetFunctionCodeSigningConfig(ctx, &sdk.GetFunctionCodeSigningConfigInput{FunctionName: new("hello")})
	if err != nil || of.CodeSigningConfigArn != nil {
		t.Errorf("%+v %v", of, err)
	}
	if _, err := w.lambda.DeleteCodeSigningConfig(ctx, &sdk.DeleteCodeSigningConfigInput{CodeSigningConfigArn: arn}); err != nil {
		t.Error(err)
	}
}

// signatureIn is the signature's file of an archive.
func signatureIn(t *testing.T, archive []byte) string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := z.Open(signing.File)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
