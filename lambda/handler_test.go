package lambda

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdklogs "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/durable"
	"github.com/hearth-faas/hearth/iam/wire"
	"github.com/hearth-faas/hearth/internal/sdkhttp"
	"github.com/hearth-faas/hearth/query"
	"github.com/hearth-faas/hearth/s3"
)

// testNow is the real time, since the SDK's clients sign with it.
var testNow = time.Now().UTC().Truncate(time.Second)

type testKeys struct{}

func (testKeys) Lookup(key, token string) (string, hearth.Identity, error) {
	if key != "AKIDROOT" || token != "" {
		return "", hearth.Identity{}, hearth.Errorf(hearth.UnrecognizedClient, "The security token included in the request is invalid.")
	}
	return "secret", hearth.Identity{Account: testAccount, ARN: "arn:aws:iam::000000000000:root", UserID: "000000000000"}, nil
}

// world is a handler over fakes, and the SDK's clients of it.
type world struct {
	t        *testing.T
	registry testRegistry
	invoker  *fakeInvoker
	durable  *durable.Executions
	clock    *clock.Fake
	mu       sync.Mutex
	done     []*hearth.Invocation
	url      string
	lambda   *sdk.Client
	aws      aws.Config
	buckets  string // a folder whose folders are S3's buckets
}

// newWorld makes a handler over a real registry; change may alter what it is
// made with.
func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	c := clock.NewFake(testNow)
	reg := newTestRegistry(t, c)
	w := &world{t: t, registry: reg, invoker: &fakeInvoker{registry: reg}, clock: c, buckets: t.TempDir()}
	executions, err := durable.Open(t.Context(), durable.Config{
		Store: reg.records, Functions: reg, Invoker: w.invoker, Clock: c, ParseName: ParseFunctionName,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := executions.Close(); err != nil {
			t.Error(err)
		}
	})
	w.durable = executions
	objects, err := s3.New(s3.Config{Endpoint: "file://" + w.buckets, TempDir: t.TempDir(), Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Durable:  executions,
		Registry: reg, Mappings: reg.mappings, SigningConfigs: reg.signing, Invoker: w.invoker, Credentials: testKeys{}, Clock: w.clock, Region: "us-east-1",
		Objects: objects,
		Queries: map[string]*query.Service{"sts": wire.STS(nil, nil, nil)}, // as far as it needs neither
		Logs:    fakeLogs{lines: []string{"START", "hello world", "ERROR bad", "END"}},
		Done: func(inv *hearth.Invocation) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.done = append(w.done, inv)
		},
		Log: slog.New(slog.DiscardHandler),
	}
	withProviders(t, &cfg)
	for _, f := range change {
		f(&cfg)
	}
	h := New(cfg)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	w.url = server.URL
	w.aws = aws.Config{
		Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1, HTTPClient: sdkhttp.Client{},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDROOT", "secret", ""),
	}
	w.lambda = sdk.NewFromConfig(w.aws)
	return w
}

// zipOf makes an archive. t may be nil, where a failure panics.
func zipOf(t testing.TB, files map[string]string) []byte {
	fail := func(err error) { panic(err) }
	if t != nil {
		t.Helper()
		fail = func(err error) { t.Helper(); t.Fatal(err) }
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		f, err := z.Create(name)
		if err != nil {
			fail(err)
		}
		if _, err := io.WriteString(f, text); err != nil {
			fail(err)
		}
	}
	if err := z.Close(); err != nil {
		fail(err)
	}
	return b.Bytes()
}

// anyZip and otherZip are packages that nothing runs.
var (
	anyZip   = zipOf(nil, map[string]string{"app.py": "def handler(event, context): return event"})
	otherZip = zipOf(nil, map[string]string{"app.py": "def handler(event, context): return 1"})
)

func createInput(name string) *sdk.CreateFunctionInput {
	return &sdk.CreateFunctionInput{
		FunctionName: &name, Role: new("arn:aws:iam::000000000000:role/r"),
		Runtime: types.RuntimePython312, Handler: new("app.handler"),
		Code: &types.FunctionCode{ZipFile: anyZip},
	}
}

func (w *world) create(name string) *sdk.CreateFunctionOutput {
	w.t.Helper()
	out, err := w.lambda.CreateFunction(w.t.Context(), createInput(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// wantError requires the code and a part of the message.
func wantError(t *testing.T, err error, code, text string) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), text) {
		t.Errorf("got %v, want %s: %s", err, code, text)
	}
}

func TestAFunctionIsMadeShownChangedAndDeleted(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	in := createInput("hello")
	in.Description = new("says hello")
	in.MemorySize, in.Timeout = new(int32(256)), new(int32(7))
	in.Environment = &types.Environment{Variables: map[string]string{"AB": "1"}}
	in.Architectures = []types.Architecture{types.ArchitectureArm64}
	in.Tags = map[string]string{"team": "x"}
	made, err := w.lambda.CreateFunction(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	if *made.FunctionArn != "arn:aws:lambda:us-east-1:000000000000:function:hello" || *made.MemorySize != 256 || *made.Timeout != 7 ||
		made.Environment.Variables["AB"] != "1" || made.Architectures[0] != types.ArchitectureArm64 || made.LastUpdateStatus != "" ||
		*made.EphemeralStorage.Size != 512 || made.TracingConfig.Mode != types.TracingModePassThrough || made.State != types.StateActive {
		t.Errorf("made %+v", made)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000-0700", *made.LastModified); err != nil {
		t.Error(err)
	}
	_, err = w.lambda.CreateFunction(ctx, in)
	wantError(t, err, "ResourceConflictException", "hello")

	got, err := w.lambda.GetFunction(ctx, &sdk.GetFunctionInput{FunctionName: new("arn:aws:lambda:us-east-1:000000000000:function:hello:$LATEST"), Qualifier: new("$LATEST")})
	if err != nil {
		t.Fatal(err)
	}
	if *got.Configuration.FunctionArn != *made.FunctionArn+":$LATEST" || got.Tags["team"] != "x" || got.Configuration.LastUpdateStatus != types.LastUpdateStatusSuccessful {
		t.Errorf("got %+v", got.Configuration)
	}

	updated, err := w.lambda.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{
		FunctionName: new("000000000000:hello"), MemorySize: new(int32(512)), LoggingConfig: &types.LoggingConfig{LogFormat: types.LogFormatJson},
	})
	if err != nil {
		t.Fatal(err)
	}
	if *updated.MemorySize != 512 || *updated.Timeout != 7 || *updated.Description != "says hello" || updated.LoggingConfig.SystemLogLevel != types.SystemLogLevelInfo {
		t.Errorf("updated %+v", updated)
	}
	code, err := w.lambda.UpdateFunctionCode(ctx, &sdk.UpdateFunctionCodeInput{FunctionName: new("hello"), ZipFile: otherZip, Publish: true})
	if err != nil {
		t.Fatal(err)
	}
	if *code.Version != "1" || *code.FunctionArn != *made.FunctionArn+":1" || *code.CodeSha256 == *made.CodeSha256 {
		t.Errorf("code %+v", code)
	}
	_, err = w.lambda.UpdateFunctionCode(ctx, &sdk.UpdateFunctionCodeInput{FunctionName: new("hello"), ZipFile: otherZip, RevisionId: made.RevisionId})
	wantError(t, err, "PreconditionFailedException", "The Revision Id provided does not match")

	changed, err := w.lambda.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: new("hello"), Timeout: new(int32(9))})
	if err != nil || *changed.Timeout != 9 {
		t.Fatal(changed, err)
	}
	published, err := w.lambda.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: new("hello"), Description: new("two"), CodeSha256: code.CodeSha256})
	if err != nil {
		t.Fatal(err)
	}
	if *published.Version != "2" || *published.FunctionArn != *made.FunctionArn+":2" || *published.Description != "two" {
		t.Errorf("published %+v", published)
	}
	versions, err := w.lambda.ListVersionsByFunction(ctx, &sdk.ListVersionsByFunctionInput{FunctionName: new("hello"), MaxItems: new(int32(10000))})
	if err != nil || len(versions.Versions) != 3 || *versions.Versions[0].FunctionArn != *made.FunctionArn+":$LATEST" || versions.Versions[0].State != "" {
		t.Errorf("versions %+v %v", versions, err)
	}
	if _, err := w.lambda.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: new("hello:1")}); err != nil {
		t.Error(err)
	}
	_, err = w.lambda.GetFunctionConfiguration(ctx, &sdk.GetFunctionConfigurationInput{FunctionName: new("hello"), Qualifier: new("1")})
	wantError(t, err, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:hello:1")
	if _, err := w.lambda.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: new("hello")}); err != nil {
		t.Error(err)
	}
	_, err = w.lambda.GetFunction(ctx, &sdk.GetFunctionInput{FunctionName: new("hello")})
	wantError(t, err, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:hello")
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok {
		t.Errorf("the SDK reads it as %T", err)
	}
}

func TestListsAreReadPageByPage(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c"} {
		w.create(name)
		if _, err := w.lambda.PublishVersion(t.Context(), &sdk.PublishVersionInput{FunctionName: &name}); err != nil {
			t.Fatal(err)
		}
	}
	for all, want := range map[types.FunctionVersion]string{
		"":                       "a b c",
		types.FunctionVersionAll: "a:$LATEST a:1 b:$LATEST b:1 c:$LATEST c:1",
	} {
		var names []string
		pages := sdk.NewListFunctionsPaginator(w.lambda, &sdk.ListFunctionsInput{FunctionVersion: all, MaxItems: new(int32(2))})
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range page.Functions {
				names = append(names, strings.TrimPrefix(*f.FunctionArn, "arn:aws:lambda:us-east-1:000000000000:function:"))
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("FunctionVersion %q lists %s, want %s", all, got, want)
		}
	}
}

func TestWhatCannotBeIsRefusedInTheServicesWords(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.create("hello")
	get := func(name, qualifier string) error {
		in := &sdk.GetFunctionInput{FunctionName: &name}
		if qualifier != "" {
			in.Qualifier = &qualifier
		}
		_, err := w.lambda.GetFunction(ctx, in)
		return err
	}
	create := func(edit func(*sdk.CreateFunctionInput)) error {
		in := createInput("other")
		edit(in)
		_, err := w.lambda.CreateFunction(ctx, in)
		return err
	}
	wantError(t, get("hello:1", "2"), "InvalidParameterValueException", "The derived qualifier from the function name does not match the specified qualifier.")
	wantError(t, get("arn:aws:lambda:ap-southeast-1:000000000000:function:hello", ""), "ResourceNotFoundException", "Functions from 'ap-southeast-1' are not reachable in this region ('us-east-1')")
	wantError(t, get("arn:aws:lambda:us-east-1:111111111111:function:hello", ""), "AccessDeniedException", "not authorized to perform: lambda:GetFunction")
	_, err := w.lambda.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: new("hello"), Qualifier: new("$LATEST")})
	wantError(t, err, "InvalidParameterValueException", "$LATEST version cannot be deleted without deleting the function.")
	wantError(t, create(func(in *sdk.CreateFunctionInput) { in.Code = &types.FunctionCode{} }), "InvalidParameterValueException", "Please provide a source for function code.")
	wantError(t, create(func(in *sdk.CreateFunctionInput) { in.PublishTo = types.FunctionVersionLatestPublishedLatestPublished }), "InvalidParameterValueException", "PublishTo LATEST_PUBLISHED is supported only for functions that are configured with a capacity provider: arn:aws:lambda:us-east-1:000000000000:function:other has none.")
}

func TestARequestThatIsTooLargeIsRefused(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	in := createInput("large")
	in.Code.ZipFile = make([]byte, 53_000_000)
	_, err := w.lambda.CreateFunction(t.Context(), in)
	wantError(t, err, "RequestEntityTooLargeException", "Request must be smaller than 70167211 bytes for the CreateFunction operation")
	_, err = w.lambda.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: new("hello"), Payload: bytes.Repeat([]byte("1"), hearth.MaxPayload+1)})
	wantError(t, err, "RequestTooLargeException", "Request must be smaller than 6291556 bytes for the InvokeFunction operation")
	out, err := w.lambda.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: new("hello"), Payload: bytes.Repeat([]byte("1"), hearth.MaxPayload)})
	if err != nil || len(out.Payload) != hearth.MaxPayload {
		t.Errorf("the largest payload: %v", err)
	}
}

func TestTagsAreSetReadAndRemoved(t *testing.T) {
	w := newWorld(t)
	arn := w.create("hello").FunctionArn
	ctx := t.Context()
	if _, err := w.lambda.TagResource(ctx, &sdk.TagResourceInput{Resource: arn, Tags: map[string]string{"a": "1", "b": "2"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.lambda.UntagResource(ctx, &sdk.UntagResourceInput{Resource: arn, TagKeys: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	out, err := w.lambda.ListTags(ctx, &sdk.ListTagsInput{Resource: arn})
	if err != nil || len(out.Tags) != 1 || out.Tags["b"] != "2" {
		t.Errorf("tags %v %v", out, err)
	}
	_, err = w.lambda.ListTags(ctx, &sdk.ListTagsInput{Resource: new(*arn + ":1")})
	wantError(t, err, "InvalidParameterValueException", "Tags on function aliases and versions are not supported. Please specify a function ARN.")
}

func TestSettingsOfTheAccountAndCodeSigningAreRead(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	s, err := w.lambda.GetAccountSettings(t.Context(), &sdk.GetAccountSettingsInput{})
	if err != nil || s.AccountUsage.FunctionCount != 1 || s.AccountUsage.TotalCodeSize == 0 || s.AccountLimit.ConcurrentExecutions != 1000 || s.AccountLimit.TotalCodeSize != 80530636800 {
		t.Errorf("settings %+v %v", s, err)
	}
	c, err := w.lambda.GetFunctionCodeSigningConfig(t.Context(), &sdk.GetFunctionCodeSigningConfigInput{FunctionName: new("hello")})
	if err != nil || c.CodeSigningConfigArn != nil {
		t.Errorf("code signing %+v %v", c, err)
	}
	_, err = w.lambda.GetFunctionCodeSigningConfig(t.Context(), &sdk.GetFunctionCodeSigningConfigInput{FunctionName: new("other")})
	wantError(t, err, "ResourceNotFoundException", "Function not found")
}

func TestCodeLocationDownloadsThePackageForTenMinutes(t *testing.T) {
	w := newWorld(t)
	in := createInput("hello")
	in.Code.ZipFile = zipOf(t, map[string]string{"app.py": "def handler(e, c): return e"})
	if _, err := w.lambda.CreateFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	got, err := w.lambda.GetFunction(t.Context(), &sdk.GetFunctionInput{FunctionName: new("hello")})
	if err != nil {
		t.Fatal(err)
	}
	location := *got.Code.Location
	fetch := func(u string) (int, []byte) {
		resp, err := http.Get(u)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body
	}
	if status, body := fetch(location); status != 200 || !bytes.Equal(body, in.Code.ZipFile) {
		t.Errorf("status %d, %d bytes", status, len(body))
	}
	for name, u := range map[string]string{
		"other signature": strings.Replace(location, "signature=", "signature=00", 1),
		"other expiry":    strings.Replace(location, "expires=", "expires=9", 1),
		"other package":   strings.Replace(location, downloadPath, downloadPath+"0", 1),
		"no signature":    location[:strings.Index(location, "?")],
	} {
		if status, _ := fetch(u); status != 403 {
			t.Errorf("%s: status %d", name, status)
		}
	}
	w.clock.Advance(11 * time.Minute)
	if status, body := fetch(location); status != 403 || !strings.Contains(string(body), "expired") {
		t.Errorf("after its time: status %d, %s", status, body)
	}
}

func TestUnsignedRequestsAreRefusedInEachServicesWay(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		method, path, contentType, target, want string
	}{
		"lambda": {"GET", "/2015-03-31/functions", "", "", `{"message":"Missing Authentication Token"}`},
		"sts":    {"POST", "/", "application/x-www-form-urlencoded", "", "<Code>MissingAuthenticationToken</Code>"},
		"logs":   {"POST", "/", "application/x-amz-json-1.1", "Logs_20140328.DescribeLogGroups", `"__type":"MissingAuthenticationTokenException"`},
	} {
		r, err := http.NewRequest(c.method, w.url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", c.contentType)
		if c.target != "" {
			r.Header.Set("X-Amz-Target", c.target)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(body), c.want) || resp.Header.Get("X-Amzn-Requestid") == "" {
			t.Errorf("%s: %d %s %v", name, resp.StatusCode, body, err)
		}
	}
}

func TestAWrongSecretIsRefusedWithoutRunningAnything(t *testing.T) {
	w := newWorld(t)
	w.create("hello")
	cfg := w.aws.Copy()
	cfg.Credentials = credentials.NewStaticCredentialsProvider("AKIDROOT", "guess", "")
	_, err := sdk.NewFromConfig(cfg).Invoke(t.Context(), &sdk.InvokeInput{FunctionName: new("hello")})
	wantError(t, err, "InvalidSignatureException", "The request signature we calculated does not match the signature you provided.")
	if len(w.invoker.seen) != 0 {
		t.Error("the function ran")
	}
	_, err = sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	wantError(t, err, "SignatureDoesNotMatch", "The request signature we calculated")
	cfg.Credentials = credentials.NewStaticCredentialsProvider("AKIDOTHER", "guess", "")
	_, err = sdk.NewFromConfig(cfg).ListFunctions(t.Context(), &sdk.ListFunctionsInput{})
	wantError(t, err, "UnrecognizedClientException", "The security token included in the request is invalid.")
	_, err = sdklogs.NewFromConfig(cfg).DescribeLogGroups(t.Context(), &sdklogs.DescribeLogGroupsInput{})
	wantError(t, err, "UnrecognizedClientException", "The security token included in the request is invalid.")
}

func TestUnknownPathsAreUnknownOperations(t *testing.T) {
	w := newWorld(t)
	r, err := http.NewRequest("GET", w.url+"/2015-03-31/gadgets", nil)
	if err != nil {
		t.Fatal(err)
	}
	const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	creds, err := w.aws.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := v4.NewSigner().SignHTTP(t.Context(), creds, r, emptyHash, "lambda", "us-east-1", testNow); err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 404 || resp.Header.Get("X-Amzn-Errortype") != "UnknownOperationException" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}
