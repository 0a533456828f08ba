package e2e

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// rewritten is an archive with the content of one of its files changed, and
// everything else, a signature too, as it was.
func rewritten(t testing.TB, archive []byte, file, content string) []byte {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	w.SetComment(r.Comment)
	for _, f := range r.File {
		if f.Name != file {
			if err := w.Copy(f); err != nil {
				t.Fatal(err)
			}
			continue
		}
		h := f.FileHeader
		to, err := w.CreateHeader(&zip.FileHeader{Name: h.Name, Method: h.Method, ExternalAttrs: h.ExternalAttrs, CreatorVersion: h.CreatorVersion})
		if err == nil {
			_, err = io.WriteString(to, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestOnlyWhatAnAllowedPublisherSignedIsDeployedUnderEnforce(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, c := t.Context(), s.client()
	work := t.TempDir()
	hearthIn := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(hearthBinary, append(args, "--data", s.dir)...)
		cmd.Dir, cmd.Env = work, cleanEnv()
		out, err := output(cmd)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	publisher := hearthIn("signing", "create", "team")
	stranger := hearthIn("signing", "create", "stranger")
	if list := hearthIn("signing", "ls"); !strings.Contains(list, publisher) || !strings.Contains(list, stranger) {
		t.Errorf("listed:\n%s", list)
	}
	if info, err := os.Stat(filepath.Join(work, "team.key.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
	signed := func(answer, profile, key string) []byte {
		t.Helper()
		file := filepath.Join(work, "code.zip")
		if err := os.WriteFile(file, zipOf(t, map[string]string{"index.py": "def handler(event, context): return '" + answer + "'\n"}), 0o644); err != nil {
			t.Fatal(err)
		}
		hearthIn("sign", "code.zip", "--profile", profile, "--key", key, "-o", "signed.zip")
		b, err := os.ReadFile(filepath.Join(work, "signed.zip"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}

	config, err := c.CreateCodeSigningConfig(ctx, &lambda.CreateCodeSigningConfigInput{
		AllowedPublishers:   &types.AllowedPublishers{SigningProfileVersionArns: []string{publisher}},
		CodeSigningPolicies: &types.CodeSigningPolicies{UntrustedArtifactOnDeployment: types.CodeSigningPolicyEnforce},
	})
	if err != nil {
		t.Fatal(err)
	}
	create := func(code []byte) error {
		_, err := c.CreateFunction(ctx, &lambda.CreateFunctionInput{
			FunctionName: new("signed"), Runtime: "python3.11", Handler: new("index.handler"), Role: new("arn:aws:iam::000000000000:role/test"),
			Code: &types.FunctionCode{ZipFile: code}, CodeSigningConfigArn: config.CodeSigningConfig.CodeSigningConfigArn,
		})
		return err
	}
	first := signed("one", publisher, "team.key.pem")
	if err := create(zipOf(t, map[string]string{"index.py": "def handler(event, context): return 'unsigned'\n"})); !isA[*types.CodeVerificationFailedException](err) {
		t.Errorf("unsigned code: %v", err)
	}
	if err := create(signed("theirs", stranger, "stranger.key.pem")); !isA[*types.CodeVerificationFailedException](err) {
		t.Errorf("a stranger's code: %v", err)
	}
	tampered := rewritten(t, first, "index.py", "def handler(event, context): return 'other'\n")
	if err := create(tampered); !isA[*types.InvalidCodeSignatureException](err) {
		t.Errorf("code that was changed: %v", err)
	}
	if err := create(first); err != nil {
		t.Fatal(err)
	}
	s.waitActive("signed")
	if a := s.mustInvoke("signed", "{}"); a.payload != `"one"` {
		t.Errorf("it answers %s", a.payload)
	}
	got, err := c.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: new("signed")})
	if err != nil || got.SigningProfileVersionArn == nil || *got.SigningProfileVersionArn != publisher || got.SigningJobArn == nil {
		t.Errorf("shown as %+v, %v", got, err)
	}
	update := func(code []byte) error {
		_, err := c.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: new("signed"), ZipFile: code})
		return err
	}
	if err := update(tampered); !isA[*types.InvalidCodeSignatureException](err) {
		t.Errorf("an update that was changed: %v", err)
	}
	if err := update(signed("two", publisher, "team.key.pem")); err != nil {
		t.Fatal(err)
	}
	s.waitActive("signed")
	if a := s.mustInvoke("signed", "{}"); a.payload != `"two"` {
		t.Errorf("after the update it answers %s", a.payload)
	}
	// A publisher that was taken back is nobody's; what runs goes on.
	third := signed("three", publisher, "team.key.pem")
	hearthIn("signing", "rm", publisher)
	if err := update(third); err == nil {
		t.Error("code of a publisher that was taken back was deployed")
	}
	if a := s.mustInvoke("signed", "{}"); a.payload != `"two"` {
		t.Errorf("after the refusals it answers %s", a.payload)
	}
}

func TestAFunctionsEnvironmentIsUnderAKeyOfItsOwn(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, c := t.Context(), s.client()
	const secret, name = "correct-horse-battery-staple", "sealed"
	must := func(args ...string) string {
		t.Helper()
		out, err := s.hearth(args...)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	key := must("keys", "create", "--description", "for the test")
	in := &lambda.CreateFunctionInput{
		FunctionName: new(name), Runtime: "python3.11", Handler: new("index.handler"), Role: new("arn:aws:iam::000000000000:role/test"),
		Code:        &types.FunctionCode{ZipFile: zipOf(t, map[string]string{"index.py": "import os\ndef handler(event, context): return os.environ['SECRET']\n"})},
		Environment: &types.Environment{Variables: map[string]string{"SECRET": secret}}, KMSKeyArn: new(strings.Replace(key, ":key/", ":key/0", 1)),
	}
	if _, err := c.CreateFunction(ctx, in); !isA[*types.InvalidParameterValueException](err) {
		t.Errorf("under a key that is not there: %v", err)
	}
	in.KMSKeyArn = &key
	if _, err := c.CreateFunction(ctx, in); err != nil {
		t.Fatal(err)
	}
	s.waitActive(name)
	answers := func() {
		t.Helper()
		if a := s.mustInvoke(name, "{}"); a.payload != `"`+secret+`"` {
			t.Errorf("it answers %s", a.payload)
		}
	}
	answers()
	shown := func() *types.EnvironmentResponse {
		t.Helper()
		f, err := c.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: new(name)})
		if err != nil || f.KMSKeyArn == nil || *f.KMSKeyArn != key || f.Environment == nil {
			t.Fatalf("shown as %+v, %v", f, err)
		}
		return f.Environment
	}
	if e := shown(); e.Variables["SECRET"] != secret || e.Error != nil {
		t.Errorf("shown as %+v", e)
	}

	must("keys", "disable", key)
	_, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: new(name)})
	if e, ok := errors.AsType[*types.KMSDisabledException](err); !ok || e.ErrorMessage() != "Lambda was unable to decrypt the environment variables because the KMS key used is disabled. Please check the function's KMS key settings. KMS Exception: DisabledException KMS Message: "+key+" is disabled." {
		t.Errorf("invoked under a disabled key: %v", err)
	}
	if e := shown(); e.Variables != nil || e.Error == nil || *e.Error.ErrorCode != "KMSDisabledException" {
		t.Errorf("under a disabled key it is shown as %+v", e)
	}
	if _, err := c.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: new(name), Description: new("x")}); !isA[*types.InvalidParameterValueException](err) {
		t.Errorf("changed under a disabled key: %v", err)
	}
	var list []struct {
		ARN     string
		Enabled bool
	}
	if err := json.Unmarshal([]byte(must("keys", "ls", "--json")), &list); err != nil || len(list) != 1 || list[0].ARN != key || list[0].Enabled {
		t.Errorf("listed %+v, %v", list, err)
	}
	// So it is after a restart; and once it is enabled it works as before.
	s.stop()
	again := startIn(t, s.dir)
	*s = *again
	c = s.client()
	if _, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: new(name)}); !isA[*types.KMSDisabledException](err) {
		t.Errorf("after a restart: %v", err)
	}
	must("keys", "enable", key)
	answers()
	if e := shown(); e.Variables["SECRET"] != secret {
		t.Errorf("shown as %+v", e)
	}
	s.stop()
	if files := filesWith(t, s.dir, secret); len(files) > 0 {
		t.Errorf("the secret is in plain text in %q", files)
	}
}

// filesWith are the files below a folder that have the text in them.
func filesWith(t testing.TB, dir, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(at)
		if bytes.Contains(b, []byte(text)) {
			found = append(found, at)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
