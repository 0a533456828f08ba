package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go"
)

// from is a client of an address of this machine, by the proxy if there is one,
// which writes headers of its own.
func from(address string, proxy *httptest.Server, headers map[string]string) *http.Client {
	t := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext}
	if proxy != nil {
		roots := x509.NewCertPool()
		roots.AddCert(proxy.Certificate())
		t.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	return &http.Client{Transport: adding{t, headers}}
}

// adding adds headers that are not signed.
type adding struct {
	next    http.RoundTripper
	headers map[string]string
}

func (a adding) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, value := range a.headers {
		r.Header.Set(name, value)
	}
	return a.next.RoundTrip(r)
}

// Behind a reverse proxy that speaks TLS and is trusted, conditions, the audit
// log, the limits of an address and the URLs that are told go by the client, and
// by nothing that he writes himself.
func TestAClientBehindATrustedProxyIsWhoAsks(t *testing.T) {
	t.Parallel()
	s := start(t, "--trusted-proxies", "127.0.0.1", "--source-rate", "30")
	target, err := url.Parse(s.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
		r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
		r.SetXForwarded() // appends, as most proxies do
	}})
	t.Cleanup(proxy.Close)

	root, ctx := s.config(), t.Context()
	users := iam.NewFromConfig(root)
	if _, err := users.CreateUser(ctx, &iam.CreateUserInput{UserName: ptr("ann")}); err != nil {
		t.Fatal(err)
	}
	if _, err := users.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: ptr("ann"), PolicyName: ptr("p"), PolicyDocument: ptr(
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["lambda:ListFunctions","sqs:CreateQueue"],"Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"},"IpAddress":{"aws:SourceIp":"127.0.0.2"}}}}`)}); err != nil {
		t.Fatal(err)
	}
	key, err := users.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: ptr("ann")})
	if err != nil {
		t.Fatal(err)
	}
	as := func(endpoint string, client *http.Client, secret string) aws.Config {
		c := root.Copy()
		c.BaseEndpoint, c.HTTPClient = &endpoint, client
		c.Credentials = credentials.NewStaticCredentialsProvider(*key.AccessKey.AccessKeyId, secret, "")
		c.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
		return c
	}
	secret := *key.AccessKey.SecretAccessKey
	spoofed := map[string]string{"X-Forwarded-For": "127.0.0.2", "X-Forwarded-Proto": "https", "Forwarded": "for=127.0.0.2;proto=https"}
	list := func(endpoint string, client *http.Client, secret string) string {
		_, err := lambda.NewFromConfig(as(endpoint, client, secret)).ListFunctions(ctx, &lambda.ListFunctionsInput{})
		return codeOf(t, err)
	}
	for _, c := range []struct {
		name, endpoint string
		client         *http.Client
		want           string
	}{
		{"from his address by TLS", proxy.URL, from("127.0.0.2", proxy, nil), ""},
		{"from another by TLS", proxy.URL, from("127.0.0.3", proxy, nil), "AccessDeniedException"},
		{"from another who says that it is his", proxy.URL, from("127.0.0.3", proxy, spoofed), "AccessDeniedException"},
		{"past the proxy from his, in plain text", s.endpoint, from("127.0.0.2", nil, nil), "AccessDeniedException"},
		{"past the proxy, saying TLS", s.endpoint, from("127.0.0.2", nil, spoofed), "AccessDeniedException"},
		{"past the proxy from another, saying both", s.endpoint, from("127.0.0.3", nil, spoofed), "AccessDeniedException"},
	} {
		if got := list(c.endpoint, c.client, secret); got != c.want {
			t.Errorf("%s: %q, and not %q", c.name, got, c.want)
		}
	}
	queue, err := sqs.NewFromConfig(as(proxy.URL, from("127.0.0.2", proxy, nil), secret)).CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: ptr("q")})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(*queue.QueueUrl, proxy.URL+"/") {
		t.Errorf("the queue's URL is %s", *queue.QueueUrl)
	}

	// The audit log has the clients' addresses, the newest first, as soon as it is
	// written.
	const want = "127.0.0.3 127.0.0.2 127.0.0.2 127.0.0.3 127.0.0.3 127.0.0.2"
	await(t, patience, "the clients' addresses in the audit log", func() bool {
		var addresses []string
		for _, e := range s.audited("--who", "ann", "--action", "lambda:ListFunctions") {
			addresses = append(addresses, e.SourceIP)
		}
		return strings.Join(addresses, " ") == want
	})

	// Who guesses is held off, and nobody else who comes by the same proxy.
	guesser := from("127.0.0.4", proxy, spoofed)
	code := ""
	for i := 0; i < 20 && code != "TooManyRequestsException"; i++ {
		code = list(proxy.URL, guesser, "no"+secret)
	}
	if code != "TooManyRequestsException" {
		t.Errorf("20 wrong signatures are answered with %s", code)
	}
	if got := list(proxy.URL, from("127.0.0.2", proxy, nil), secret); got != "" {
		t.Errorf("another client of the proxy's is answered with %s", got)
	}

	// Likewise who asks too often.
	flooder := from("127.0.0.5", proxy, spoofed)
	status := 0
	for i := 0; i < 2000 && status != http.StatusTooManyRequests; i++ {
		status = get(ctx, t, flooder, proxy.URL+"/healthz")
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("a flood is answered with %d", status)
	}
	if got := get(ctx, t, from("127.0.0.6", proxy, nil), proxy.URL+"/healthz"); got != http.StatusOK {
		t.Errorf("another client of the proxy's is answered with %d", got)
	}
}

// codeOf is the code of an error of the service's; "" is none.
func codeOf(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		t.Fatal(err)
	}
	return e.ErrorCode()
}

func get(ctx context.Context, t *testing.T, client *http.Client, url string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}
