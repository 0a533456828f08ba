package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// chatFunction lets in who has the key, and answers by what it returns or, from
// inside, by the management API.
const chatFunction = `
import datetime, hashlib, hmac, json, os, urllib.parse, urllib.request

def post(context, text):
    endpoint = os.environ['AWS_ENDPOINT_URL']
    path = '/execute-api/%s/%s/@connections/%s' % (context['apiId'], context['stage'], context['connectionId'])
    at = datetime.datetime.utcnow().strftime('%Y%m%dT%H%M%SZ')
    scope = '/'.join([at[:8], os.environ['AWS_REGION'], 'execute-api', 'aws4_request'])
    sha = lambda s: hashlib.sha256(s.encode()).hexdigest()
    token, names = os.environ['AWS_SESSION_TOKEN'], 'host;x-amz-date;x-amz-security-token'
    # What is signed is encoded twice, as for all services but S3.
    signed = urllib.parse.quote(path.replace('@', '%40'))
    request = '\n'.join(['POST', signed, '', 'host:' + endpoint.split('//')[1], 'x-amz-date:' + at, 'x-amz-security-token:' + token, '', names, sha(text)])
    key = ('AWS4' + os.environ['AWS_SECRET_ACCESS_KEY']).encode()
    for part in scope.split('/'):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    mac = hmac.new(key, '\n'.join(['AWS4-HMAC-SHA256', at, scope, sha(request)]).encode(), hashlib.sha256).hexdigest()
    urllib.request.urlopen(urllib.request.Request(endpoint + path.replace('@', '%40'), text.encode(), {'X-Amz-Date': at, 'X-Amz-Security-Token': token,
        'Authorization': 'AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s' % (os.environ['AWS_ACCESS_KEY_ID'], scope, names, mac)})).read()

def handler(event, context):
    c = event['requestContext']
    if c['eventType'] == 'CONNECT':
        return {'statusCode': 200 if event.get('queryStringParameters', {}).get('key') == 'good' else 401}
    if c['eventType'] == 'MESSAGE':
        body = json.loads(event['body'])
        if c['routeKey'] == 'post':
            post(c, 'posted ' + body['text'])
        return {'statusCode': 200, 'body': json.dumps({'id': c['connectionId'], 'route': c['routeKey']})}
    print('left', c['connectionId'], c['disconnectStatusCode'])
`

// boto3Chat makes the API.
const boto3Chat = `
import boto3, sys
c = boto3.client("apigatewayv2")
api = c.create_api(Name="chat", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")
id = api["ApiId"]
i = c.create_integration(ApiId=id, IntegrationType="AWS_PROXY", IntegrationUri=sys.argv[1])["IntegrationId"]
for key in ["$connect", "$disconnect", "post"]:
    c.create_route(ApiId=id, RouteKey=key, Target="integrations/" + i)
r = c.create_route(ApiId=id, RouteKey="$default", Target="integrations/" + i, RouteResponseSelectionExpression="$default")["RouteId"]
a = c.create_route_response(ApiId=id, RouteId=r, RouteResponseKey="$default")["RouteResponseId"]
assert c.get_route_response(ApiId=id, RouteId=r, RouteResponseId=a)["RouteResponseKey"] == "$default"
assert len(c.get_route_responses(ApiId=id, RouteId=r)["Items"]) == 1
c.create_stage(ApiId=id, StageName="live", AutoDeploy=True,
    AccessLogSettings={"DestinationArn": "arn:aws:logs:us-east-1:000000000000:log-group:/access/chat", "Format": "$context.requestId $context.eventType $context.routeKey $context.status $context.connectionId"})
print(api["ApiEndpoint"] + "/live")
`

// nodeChat is a client: what it says comes from the test by lines, and what it
// hears goes there.
const nodeChat = `
const socket = new WebSocket(process.argv[2]);
socket.onopen = () => console.log('open');
socket.onmessage = e => console.log(e.data);
socket.onerror = () => console.log('error');
socket.onclose = e => { console.log('closed ' + e.code); process.exit(0); };
require('readline').createInterface({ input: process.stdin }).on('line', line => socket.send(line)).on('close', () => socket.close(4000));
`

// boto3Manages speaks to a connection, and ends it.
const boto3Manages = `
import boto3, sys, time
c = boto3.client("apigatewaymanagementapi", endpoint_url=sys.argv[1])
id = sys.argv[2]
got = c.get_connection(ConnectionId=id)
assert got["Identity"]["SourceIp"] == "127.0.0.1" and got["ConnectedAt"] <= got["LastActiveAt"], got
c.post_to_connection(ConnectionId=id, Data=b"from boto3")
c.delete_connection(ConnectionId=id)
for n in range(600):
    try:
        c.get_connection(ConnectionId=id)
        time.sleep(0.1)
    except c.exceptions.GoneException:
        break
else:
    raise SystemExit("it is still there")
try:
    c.post_to_connection(ConnectionId="none", Data=b"x")
except c.exceptions.GoneException:
    print("gone")
`

// chatter is a node process that has a WebSocket.
type chatter struct {
	t     *testing.T
	in    *os.File
	lines <-chan string
}

func (s *server) chatter(t *testing.T, url string) *chatter {
	t.Helper()
	file := filepath.Join(t.TempDir(), "chat.cjs")
	if err := os.WriteFile(file, []byte(nodeChat), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "--experimental-websocket", "--no-warnings", file, url)
	read, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = read
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			lines <- sc.Text()
		}
	}()
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = read.Close()
	})
	return &chatter{t, in, lines}
}

func (c *chatter) say(text string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *chatter) hears(want string) {
	c.t.Helper()
	if got := c.hear(); got != want {
		c.t.Fatalf("the client hears %s, want %s", got, want)
	}
}

func (c *chatter) hear() string {
	c.t.Helper()
	select {
	case line := <-c.lines:
		return line
	case <-time.After(patience):
		c.t.Fatal("the client hears nothing")
	}
	panic("unreachable")
}

func TestAWebSocketAPIIsMadeAndUsedByItsClients(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.deploy(function{name: "chat", runtime: "python3.11", files: map[string]string{"index.py": chatFunction}})
	s.letAPIsCall("chat", "")
	url := strings.TrimSpace(s.run(t.TempDir(), "python3", "-c", boto3Chat, "arn:aws:lambda:us-east-1:000000000000:function:chat"))
	// Not all resolvers know that names under localhost are this machine's.
	id, _, _ := strings.Cut(strings.TrimPrefix(url, "ws://"), ".")
	byPath := "ws" + strings.TrimPrefix(s.endpoint, "http") + "/execute-api/" + id + "/live"

	refused := s.chatter(t, byPath+"?key=bad")
	refused.hears("error")

	c := s.chatter(t, byPath+"?key=good")
	c.hears("open")
	c.say(`{"action":"who"}`)
	var who struct{ ID, Route string }
	if err := json.Unmarshal([]byte(c.hear()), &who); err != nil || who.Route != "$default" || who.ID == "" {
		t.Fatalf("%+v: %v", who, err)
	}
	c.say(`{"action":"post","text":"hello"}`)
	c.hears("posted hello")
	out := s.run(t.TempDir(), "python3", "-c", boto3Manages, "http"+strings.TrimPrefix(byPath, "ws"), who.ID)
	if strings.TrimSpace(out) != "gone" {
		t.Error(out)
	}
	c.hears("from boto3")
	c.hears("closed 1000")

	// One that leaves by itself, and one that the server's end closes.
	left, stays := s.chatter(t, byPath+"?key=good"), s.chatter(t, byPath+"?key=good")
	left.hears("open")
	stays.hears("open")
	left.say(`{"action":"who"}`)
	if err := json.Unmarshal([]byte(left.hear()), &who); err != nil {
		t.Fatal(err)
	}
	await(t, patience, "the metrics to tell of WebSockets", func() bool {
		page := fetch(t, "GET", s.endpoint+"/metrics", "").body
		return strings.Contains(page, "hearth_websocket_api_connections 2\n") && strings.Contains(page, `hearth_websocket_api_requests_total{api="`+id+`",code="2xx"`)
	})
	if err := left.in.Close(); err != nil {
		t.Fatal(err)
	}
	left.hears("closed 4000")
	want := "DISCONNECT $disconnect 200 " + who.ID
	await(t, patience, want, func() bool {
		return strings.Contains(s.run(t.TempDir(), "aws", "logs", "filter-log-events", "--log-group-name", "/access/chat", "--output", "json"), want)
	})
	s.stop()
	stays.hears("closed 1001")
}

// boto3Backend makes a WebSocket API whose messages go to an HTTP server.
const boto3Backend = `
import boto3, sys
c = boto3.client("apigatewayv2")
id = c.create_api(Name="backend", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")["ApiId"]
i = c.create_integration(ApiId=id, IntegrationType="HTTP_PROXY", IntegrationMethod="POST", IntegrationUri=sys.argv[1])["IntegrationId"]
r = c.create_route(ApiId=id, RouteKey="$default", Target="integrations/" + i, RouteResponseSelectionExpression="$default")["RouteId"]
c.create_route_response(ApiId=id, RouteId=r, RouteResponseKey="$default")
c.create_stage(ApiId=id, StageName="live", AutoDeploy=True,
    AccessLogSettings={"DestinationArn": "arn:aws:logs:us-east-1:000000000000:log-group:/access/backend", "Format": "$context.eventType $context.status backend $context.integrationStatus $context.requestId"})
print(id)
`

// What an HTTP server answers to a message its client hears, an error as well,
// and the operator sees its status.
func TestAnHTTPBackendsErrorReachesTheWebSocketsClient(t *testing.T) {
	t.Parallel()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		status, err := strconv.Atoi(string(body))
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, `{"said":`, status, `}`)
	}))
	t.Cleanup(backend.Close)
	s := start(t, "--http-backends", strings.TrimPrefix(backend.URL, "http://"))
	id := strings.TrimSpace(s.run(t.TempDir(), "python3", "-c", boto3Backend, backend.URL))
	c := s.chatter(t, "ws"+strings.TrimPrefix(s.endpoint, "http")+"/execute-api/"+id+"/live")
	c.hears("open")
	for _, status := range []string{"200", "404", "503"} {
		c.say(status)
		c.hears(`{"said":` + status + `}`)
		want := "MESSAGE 200 backend " + status
		await(t, patience, want, func() bool {
			return strings.Contains(s.run(t.TempDir(), "aws", "logs", "filter-log-events", "--log-group-name", "/access/backend", "--output", "json"), want)
		})
	}
}
