package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"
)

// auditEvent is a record of the audit log as hearth audit --json gives it.
type auditEvent struct {
	Seq       uint64 `json:"seq"`
	Account   string `json:"account"`
	Principal string `json:"principal"`
	SourceIP  string `json:"sourceIp"`
	Action    string `json:"action"`
	Resource  string `json:"resource"`
	ErrorCode string `json:"errorCode"`
	ReadOnly  bool   `json:"readOnly"`
}

func (s *server) audited(args ...string) (events []auditEvent) {
	s.t.Helper()
	out, err := s.hearth(append([]string{"audit", "--json"}, args...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &events); err != nil {
		s.t.Fatalf("%v in %s", err, out)
	}
	return events
}

// What was done through each API is in the audit log once it was acknowledged,
// also after a kill; who was refused is, too; no secret is; and each account
// sees its own.
func TestWhatWasDoneIsInTheAuditLogAfterAKill(t *testing.T) {
	t.Parallel()
	s := start(t)
	const secret = "hunter2-do-not-record"
	s.deploy(function{name: "audited", runtime: "python3.12", files: map[string]string{"index.py": "def handler(e, c): return '" + secret + "'"}, env: map[string]string{"PASSWORD": secret}})
	ctx := t.Context()
	cfg := s.config()
	if _, err := sqs.NewFromConfig(cfg).CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("audited-queue")}); err != nil {
		t.Fatal(err)
	}
	if _, err := iam.NewFromConfig(cfg).CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("audited-role"), Description: aws.String(secret),
		AssumeRolePolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.hearth("policy", "set", "audited", "sizing.mode=off"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client().DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String("no-such")}); err == nil {
		t.Fatal("a function that there is not was deleted")
	}
	other := s.otherAccount("team-a")
	if _, err := other.CreateFunction(ctx, &lambda.CreateFunctionInput{FunctionName: aws.String("theirs"), Runtime: types.RuntimePython312, Handler: aws.String("index.handler"), Role: aws.String("arn:aws:iam::000000000000:role/r"),
		Code: &types.FunctionCode{ZipFile: zipOf(t, map[string]string{"index.py": "def handler(e, c): return 1"})}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client().PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String("audited"), ReservedConcurrentExecutions: aws.Int32(7)}); err != nil {
		t.Fatal(err)
	}
	s.kill9()
	s = startIn(t, s.dir)
	want := map[string]string{ // action → resource's end
		"lambda:CreateFunction": ":function:audited", "sqs:CreateQueue": "audited-queue", "iam:CreateRole": "audited-role",
		"hearth:SetPolicy": "audited", "lambda:PutFunctionConcurrency": ":function:audited", "hearth:CreateAccount": "",
	}
	events := s.audited("--limit", "1000")
	for action, resource := range want {
		found := false
		for _, e := range events {
			found = found || e.Action == action && strings.HasSuffix(e.Resource, resource) && e.ErrorCode == "" && e.Account == "000000000000" && strings.HasSuffix(e.Principal, ":root") && !e.ReadOnly
		}
		if !found {
			t.Errorf("%s of %q is not recorded", action, resource)
		}
	}
	if theirs := s.audited("--account", "team-a"); len(theirs) != 1 || !strings.HasSuffix(theirs[0].Resource, ":function:theirs") {
		t.Errorf("of an account by its name: %+v", theirs)
	}
	if _, err := s.hearth("audit", "--account", "no-such"); err == nil || !strings.Contains(err.Error(), "There is no account") {
		t.Errorf("of an account that there is not: %v", err)
	}
	if refused := s.audited("--errors", "--action", "lambda:DeleteFunction"); len(refused) != 1 || refused[0].ErrorCode != "ResourceNotFoundException" {
		t.Errorf("%+v", refused)
	}
	if out, err := s.hearth("audit", "--verify"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if err := filepath.WalkDir(filepath.Join(s.dir, "audit"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), secret) {
			t.Errorf("%s has a secret in it", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	// Tampering is found, online and after a start.
	names, err := filepath.Glob(filepath.Join(s.dir, "audit", "*.log"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(names[0], []byte(strings.Replace(string(b), "CreateQueue", "DeleteQueue", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.hearth("audit", "--verify"); err == nil || !strings.Contains(err.Error(), "not as it was written") {
		t.Errorf("a changed record: %v", err)
	}
}

// otherAccount makes an account and returns a client of its root.
func (s *server) otherAccount(name string) *lambda.Client {
	s.t.Helper()
	key, secret := s.makeAccount(name)
	cfg := s.config()
	cfg.Credentials = credentials.NewStaticCredentialsProvider(key, secret, "")
	return lambda.NewFromConfig(cfg)
}

func (s *server) makeAccount(name string) (key, secret string) {
	s.t.Helper()
	out, err := s.hearth("account", "create", name, "--json")
	if err != nil {
		s.t.Fatal(err)
	}
	var made struct {
		AccessKeyID     string `json:"accessKeyId"`
		SecretAccessKey string `json:"secretAccessKey"`
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.SecretAccessKey == "" {
		s.t.Fatalf("%v in %s", err, out)
	}
	return made.AccessKeyID, made.SecretAccessKey
}

// The master key is rotated and moved out of the data folder; what was sealed
// before goes on to open, and without the key nothing starts.
func TestTheMasterKeyIsRotatedAndMovedOut(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "sealed", runtime: "python3.12", files: map[string]string{"index.py": "import os\ndef handler(e, c): return os.environ['WORD']"}, env: map[string]string{"WORD": "kept"}})
	other := s.otherAccount("team-a")
	s.stop()
	outside := filepath.Join(t.TempDir(), "master.key")
	if out, err := s.hearth("key", "rotate"); err != nil || !strings.Contains(out, "data key 2") {
		t.Fatal(out, err)
	}
	if out, err := s.hearth("key", "rotate", "--to", outside); err != nil || !strings.Contains(out, "outside the data folder") {
		t.Fatal(out, err)
	}
	// Where a rotation put it, it is found; elsewhere it is to be named.
	moved := filepath.Join(t.TempDir(), "moved.key")
	if err := os.Rename(outside, moved); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(hearthBinary, "up", "--listen", "127.0.0.1:0", "--data", s.dir)
	cmd.Env = cleanEnv()
	if out, err := output(cmd); err == nil || !strings.Contains(err.Error(), "master key") {
		t.Fatalf("started without the key: %s %v", out, err)
	}
	outside = moved
	endpoint := s.endpoint
	s = startIn(t, s.dir, "--master-key-file", outside)
	got, err := s.invoke("sealed", "{}")
	if err != nil || got.payload != `"kept"` {
		t.Errorf("%+v, %v", got, err)
	}
	if endpoint != s.endpoint { // the client's server is another one now
		o := other.Options()
		o.BaseEndpoint = &s.endpoint
		other = lambda.New(o)
	}
	if _, err := other.ListFunctions(t.Context(), nil); err != nil {
		t.Errorf("an access key of before: %v", err)
	}
	if out, err := s.hearth("doctor"); err != nil || !strings.Contains(out, outside+", outside the data folder") {
		t.Error(out, err)
	}
	if rotations := s.audited("--action", "hearth:RotateKey"); len(rotations) != 2 {
		t.Errorf("%+v", rotations)
	}
}

// Beyond loopback there is TLS or nothing, unless told; with a certificate the
// same API is served by HTTP/2 and HTTP/1.1, and a new certificate is taken up.
func TestTLSBeyondLoopback(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(hearthBinary, "up", "--listen", "0.0.0.0:0", "--data", filepath.Join(dir, "plain"))
	cmd.Env = cleanEnv()
	if _, err := output(cmd); err == nil || !strings.Contains(err.Error(), "--insecure-listen") {
		t.Fatalf("listens in plain text: %v", err)
	}
	cert, key, pool := selfSigned(t, dir)
	port := freePort(t)
	addr := net.JoinHostPort("127.0.0.1", port)
	s := start(t, "--tls-listen", "0.0.0.0:"+port, "--tls-cert", cert, "--tls-key", key)
	s.deploy(function{name: "echo", runtime: "python3.12", files: map[string]string{"index.py": "def handler(e, c): return e"}})
	for _, h2 := range []bool{true, false} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!h2)
		protocols.SetHTTP2(h2)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, Protocols: protocols}
		cfg := s.config()
		cfg.BaseEndpoint, cfg.HTTPClient = aws.String("https://"+addr), &http.Client{Transport: transport}
		out, err := lambda.NewFromConfig(cfg).Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("echo"), Payload: []byte(`{"over":"tls"}`)})
		if err != nil || string(out.Payload) != `{"over":"tls"}` && string(out.Payload) != `{"over": "tls"}` {
			t.Errorf("HTTP/2 %v: %v", h2, err)
		}
		transport.CloseIdleConnections()
	}
	serial := func() *big.Int {
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber
	}
	old := serial()
	selfSigned(t, dir)
	for end := time.Now().Add(patience); serial().Cmp(old) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the new certificate is not taken up")
		}
	}
}

// freePort is a port at which nothing listens. The kernel gives it to nobody who
// does not ask for it by its number, so that none of what runs beside this has it
// by the time that it is used.
func freePort(t *testing.T) string {
	t.Helper()
	var err error
	for range 100 {
		port := strconv.Itoa(20_000 + mathrand.IntN(12_000))
		var l net.Listener
		if l, err = net.Listen("tcp", ":"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal(err)
	return ""
}

func selfSigned(t *testing.T, dir string) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "hearth"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: private}} {
		err = errors.Join(err, os.WriteFile(path+".new", pem.EncodeToMemory(block), 0o600), os.Rename(path+".new", path))
	}
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(leaf)
	return cert, key, pool
}

// Who guesses at a key is held off, and nobody else: not the key from another
// address, nor others from that one.
func TestGuessingIsHeldOffWhereItComesFrom(t *testing.T) {
	t.Parallel()
	s := start(t)
	client := func(from, key, secret string) *lambda.Client {
		cfg := s.config()
		cfg.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext}}
		if secret != "" {
			cfg.Credentials = credentials.NewStaticCredentialsProvider(key, secret, "")
		}
		return lambda.NewFromConfig(cfg)
	}
	root, err := s.config().Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	guess := client("127.0.0.66", root.AccessKeyID, "wrong")
	code := ""
	for range 200 { // the tenth and some more, however slow it is
		_, err := guess.ListFunctions(t.Context(), nil)
		e, ok := errors.AsType[smithy.APIError](err)
		if !ok {
			t.Fatal(err)
		}
		if code = e.ErrorCode(); code == "TooManyRequestsException" {
			break
		}
	}
	if code != "TooManyRequestsException" {
		t.Fatalf("still %s", code)
	}
	if _, err := client("127.0.0.1", "", "").ListFunctions(t.Context(), nil); err != nil {
		t.Errorf("the right key from another address: %v", err)
	}
	out, err := s.hearth("audit", "--errors", "--json")
	if err != nil || !strings.Contains(out, "InvalidSignatureException") || !strings.Contains(out, "127.0.0.66") {
		t.Errorf("%v %s", err, out)
	}
	if out, err := s.hearth("decisions", "--json"); err != nil || !strings.Contains(out, "held off") {
		t.Errorf("%v %s", err, out)
	}
}

// Wherever signatures are checked, guesses at them are counted.
func TestGuessingIsHeldOffAtEachDoor(t *testing.T) {
	t.Parallel()
	s := start(t)
	if _, err := s.hearth("proxy", "resource", "put", "r", "t", "{}"); err != nil {
		t.Fatal(err)
	}
	definition := filepath.Join(t.TempDir(), "api.json")
	if err := os.WriteFile(definition, []byte(`{"id":"a","type":"t","methods":["POST"],"path":"/t/{resource}","function":"f"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.hearth("proxy", "put", definition); err != nil {
		t.Fatal(err)
	}
	root, err := s.config().Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root.SecretAccessKey = "wrong"
	for i, door := range []struct{ method, path, service string }{
		{"POST", "/2015-03-31/functions/f/invocations", "lambda"},
		{"GET", "/_hearth/v1/ps", "hearth"},
		{"POST", "/_hearth/proxy/000000000000/t/r", "execute-api"},
		{"POST", "/tasks/000000000000/api/live/task", "execute-api"},
	} {
		address := net.ParseIP(fmt.Sprintf("127.0.0.%d", 70+i))
		client := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: address}}).DialContext}}
		status, retry := 0, ""
		for range 40 { // the tenth and some more
			r, err := http.NewRequestWithContext(t.Context(), door.method, s.endpoint+door.path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256([]byte("{}"))
			if err := v4.NewSigner().SignHTTP(t.Context(), root, r, hex.EncodeToString(sum[:]), door.service, "us-east-1", time.Now()); err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if status, retry = resp.StatusCode, resp.Header.Get("Retry-After"); status == http.StatusTooManyRequests {
				break
			}
		}
		if status != http.StatusTooManyRequests || retry == "" {
			t.Errorf("40 wrong signatures for %s are answered with %d, to be tried again after %q", door.path, status, retry)
		}
	}
}

// A change that was overheard can't be sent again from elsewhere; a client's
// own retry can.
func TestAChangeIsNotReplayed(t *testing.T) {
	t.Parallel()
	s := start(t)
	send := func(request, from string) int {
		t.Helper()
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", strings.TrimPrefix(s.endpoint, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	request := ""
	cfg := s.config()
	cfg.HTTPClient = recording{&request}
	if _, err := sqs.NewFromConfig(cfg).CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("once")}); err != nil {
		t.Fatal(err)
	}
	if got := send(request, "127.0.0.1"); got != 200 {
		t.Errorf("a retry: %d", got)
	}
	if got := send(request, "127.0.0.9"); got < 400 || got >= 500 {
		t.Errorf("a replay: %d", got)
	}
}

// recording sends a request, and keeps it as it was.
type recording struct{ text *string }

func (r recording) Do(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", req.Method, req.URL.RequestURI(), req.URL.Host, len(body))
	req.Header.Del("Content-Length")
	if err := req.Header.Write(&b); err != nil {
		return nil, err
	}
	b.WriteString("\r\n" + string(body))
	*r.text = b.String()
	req.Body = io.NopCloser(strings.NewReader(string(body)))
	return http.DefaultClient.Do(req)
}
