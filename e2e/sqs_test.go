package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

func (s *server) queues() *sqs.Client { return sqs.NewFromConfig(s.config()) }

// queue makes a queue and returns its URL.
func (s *server) queue(name string, attributes map[string]string) string {
	s.t.Helper()
	out, err := s.queues().CreateQueue(context.Background(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	if err != nil {
		s.t.Fatal(err)
	}
	return *out.QueueUrl
}

func TestQueuesWorkWithTheAWSCommandLineBoto3AndTheGoSDK(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.shellQueues(t)
	s.botoQueues(t)
	s.goQueues(t)
	s.queuesInside(t)
}

// shellQueues is a shell as people have it: hearth env makes that work.
func (s *server) shellQueues(t *testing.T) {
	out := s.run(t.TempDir(), "sh", "-ec", `eval "$('`+hearthBinary+`' env --data '`+s.dir+`')"
url=$(aws sqs create-queue --queue-name cli --query QueueUrl --output text)
aws sqs send-message --queue-url "$url" --message-body "from the shell" --message-attributes '{"k":{"DataType":"String","StringValue":"v"}}' >&2
aws sqs receive-message --queue-url "$url" --message-attribute-names All --wait-time-seconds 5 --query "Messages[0].[Body,MessageAttributes.k.StringValue]" --output text`)
	if strings.TrimSpace(out) != "from the shell\tv" {
		t.Errorf("received %q", out)
	}
}

func (s *server) botoQueues(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "queues.py"), []byte(botoQueues), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := s.run(dir, "python3", "queues.py"); strings.TrimSpace(out) != "ok" {
		t.Errorf("boto3: %s", out)
	}
}

// botoQueues uses a FIFO queue, a batch with an entry that fails, dead
// letters, errors by their names, and the resources of boto3.
const botoQueues = `
import boto3, json
from botocore.exceptions import ClientError
sqs = boto3.client('sqs')
url = sqs.create_queue(QueueName='b.fifo', Attributes={'FifoQueue': 'true', 'ContentBasedDeduplication': 'true'})['QueueUrl']
out = sqs.send_message_batch(QueueUrl=url, Entries=[
    {'Id': 'a', 'MessageBody': '1', 'MessageGroupId': 'g'}, {'Id': 'b', 'MessageBody': '1', 'MessageGroupId': 'g'},
    {'Id': 'c', 'MessageBody': '2', 'MessageGroupId': 'g'}, {'Id': 'd', 'MessageBody': '3', 'MessageGroupId': 'g', 'DelaySeconds': 5}])
ok = {e['Id']: e for e in out['Successful']}
assert set(ok) == {'a', 'b', 'c'} and ok['a']['MessageId'] == ok['b']['MessageId'] and ok['a']['SequenceNumber'] < ok['c']['SequenceNumber'], out
assert out['Failed'][0]['Id'] == 'd' and out['Failed'][0]['SenderFault'], out
got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=['All'])['Messages']
assert [m['Body'] for m in got] == ['1', '2'] and got[0]['Attributes']['MessageGroupId'] == 'g', got
assert got[0]['Attributes']['ApproximateReceiveCount'] == '1' and len(got[0]['Attributes']['SequenceNumber']) == 20
sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=got[1]['ReceiptHandle'], VisibilityTimeout=0)
sqs.delete_message(QueueUrl=url, ReceiptHandle=got[0]['ReceiptHandle'])
got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)['Messages']
assert [m['Body'] for m in got] == ['2'], got
for call, code, cls in [
    (lambda: sqs.get_queue_url(QueueName='none'), 'AWS.SimpleQueueService.NonExistentQueue', sqs.exceptions.QueueDoesNotExist),
    (lambda: sqs.create_queue(QueueName='b.fifo', Attributes={'FifoQueue': 'true', 'VisibilityTimeout': '7'}), 'QueueAlreadyExists', sqs.exceptions.QueueNameExists),
    (lambda: sqs.delete_message(QueueUrl=url, ReceiptHandle='x'), 'ReceiptHandleIsInvalid', sqs.exceptions.ReceiptHandleIsInvalid)]:
    try:
        call()
        assert False, code
    except cls as e:
        assert e.response['Error']['Code'] == code, e.response
res = boto3.resource('sqs')
dead = res.create_queue(QueueName='dead')
q = res.create_queue(QueueName='q', Attributes={'VisibilityTimeout': '0', 'RedrivePolicy': json.dumps({'deadLetterTargetArn': dead.attributes['QueueArn'], 'maxReceiveCount': '1'})})
q.send_message(MessageBody='poison', MessageAttributes={'n': {'DataType': 'Number', 'StringValue': '1'}, 'b': {'DataType': 'Binary', 'BinaryValue': b'\x00\x01'}})
assert len(q.receive_messages()) == 1
m = dead.receive_messages(WaitTimeSeconds=10, AttributeNames=['All'], MessageAttributeNames=['All'])[0]
assert m.body == 'poison' and m.attributes['DeadLetterQueueSourceArn'] == q.attributes['QueueArn'] and m.message_attributes['b']['BinaryValue'] == b'\x00\x01', m.attributes
assert [u for u in sqs.list_dead_letter_source_queues(QueueUrl=dead.url)['queueUrls']] == [q.url]
sqs.tag_queue(QueueUrl=q.url, Tags={'a': 'b'})
assert sqs.list_queue_tags(QueueUrl=q.url)['Tags'] == {'a': 'b'}
assert int(sqs.get_queue_attributes(QueueUrl=dead.url, AttributeNames=['ApproximateNumberOfMessagesNotVisible'])['Attributes']['ApproximateNumberOfMessagesNotVisible']) == 1
assert set(sqs.list_queues(QueueNamePrefix='d')['QueueUrls']) == {dead.url}
sqs.purge_queue(QueueUrl=dead.url)
sqs.delete_queue(QueueUrl=q.url)
print('ok')
`

func (s *server) goQueues(t *testing.T) {
	ctx, c := context.Background(), s.queues()
	url := s.queue("go", nil)
	// A long poll is woken by the message: with the SDK's checks of MD5s on.
	var wg sync.WaitGroup
	var got *sqs.ReceiveMessageOutput
	var err error
	wg.Go(func() {
		got, err = c.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &url, WaitTimeSeconds: 20, MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"}})
	})
	_, serr := c.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("a\u00e4\U0001f525"), MessageAttributes: map[string]types.MessageAttributeValue{
		"s": {DataType: aws.String("String.x"), StringValue: aws.String("v")}, "b": {DataType: aws.String("Binary"), BinaryValue: []byte{1, 2}},
	}})
	wg.Wait()
	if err != nil || serr != nil || len(got.Messages) != 1 || *got.Messages[0].Body != "a\u00e4\U0001f525" || got.Messages[0].Attributes["SenderId"] != "000000000000" {
		t.Fatalf("%v, %v, %+v", err, serr, got)
	}
	_, err = c.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String("nothing")})
	if none := (*types.QueueDoesNotExist)(nil); !errors.As(err, &none) {
		t.Errorf("the URL of no queue: %v", err)
	}
}

// queuesInPython is a client of SQS by the standard library, for functions
// without boto3: call signs a form of the query protocol.
const queuesInPython = `
import datetime, hashlib, hmac, os, urllib.parse, urllib.request
def call(**form):
    endpoint = os.environ['AWS_ENDPOINT_URL']
    host = endpoint.split('//')[1]
    body = urllib.parse.urlencode(form)
    at = datetime.datetime.utcnow().strftime('%Y%m%dT%H%M%SZ')
    scope = '/'.join([at[:8], os.environ['AWS_REGION'], 'sqs', 'aws4_request'])
    sha = lambda s: hashlib.sha256(s.encode()).hexdigest()
    token = os.environ['AWS_SESSION_TOKEN']
    names = 'host;x-amz-date;x-amz-security-token'
    request = '\n'.join(['POST', '/', '', 'host:' + host, 'x-amz-date:' + at, 'x-amz-security-token:' + token, '', names, sha(body)])
    key = ('AWS4' + os.environ['AWS_SECRET_ACCESS_KEY']).encode()
    for part in scope.split('/'):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    mac = hmac.new(key, '\n'.join(['AWS4-HMAC-SHA256', at, scope, sha(request)]).encode(), hashlib.sha256).hexdigest()
    r = urllib.request.Request(endpoint + '/', body.encode(), {'Content-Type': 'application/x-www-form-urlencoded', 'X-Amz-Date': at, 'X-Amz-Security-Token': token,
        'Authorization': 'AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s' % (os.environ['AWS_ACCESS_KEY_ID'], scope, names, mac)})
    return urllib.request.urlopen(r).read().decode()
`

// queuesInside: a function sends to the queue by the URL that it got from
// outside, and by its own, in the query protocol that older SDKs speak.
func (s *server) queuesInside(t *testing.T) {
	url := s.queue("inside", nil)
	s.deploy(function{name: "sender", runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": `
import os, re
from queues import call
def handler(event, context):
    call(Action='SendMessage', QueueUrl=event['url'], MessageBody='by the URL from outside')
    url = re.search('<QueueUrl>(.*)</QueueUrl>', call(Action='GetQueueUrl', QueueName='inside')).group(1)
    assert url.startswith(os.environ['AWS_ENDPOINT_URL']), url
    call(Action='SendMessage', QueueUrl=url, MessageBody='by its own')
    return 'sent'
`, "queues.py": queuesInPython}})
	if out := s.mustInvoke("sender", `{"url":"`+url+`"}`); out.payload != `"sent"` {
		t.Fatalf("the function: %s", out.payload)
	}
	got := map[string]bool{}
	for range 2 {
		out, err := s.queues().ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{QueueUrl: &url, WaitTimeSeconds: 20, MaxNumberOfMessages: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range out.Messages {
			got[*m.Body] = true
		}
		if len(got) == 2 {
			return
		}
	}
	t.Errorf("received %v", slices.Collect(maps.Keys(got)))
}

func TestNoMessageThatSendAcknowledgedIsLostToKills(t *testing.T) {
	t.Parallel()
	s := start(t)
	url := s.queue("kills", map[string]string{"VisibilityTimeout": "1"})
	path := url[strings.LastIndex(url, "/"):]
	var mu sync.Mutex
	sent, seen := map[string]bool{}, map[string]bool{}
	n := 0
	work := func(s *server, stop <-chan struct{}) {
		at := s.endpoint + "/000000000000" + path
		c := s.queues()
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					mu.Lock()
					n++
					body := strconv.Itoa(n)
					mu.Unlock()
					if _, err := c.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &at, MessageBody: &body}); err == nil {
						mu.Lock()
						sent[body] = true
						mu.Unlock()
					}
				}
			})
		}
		for range 2 {
			wg.Go(func() {
				for ctx.Err() == nil {
					out, err := c.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &at, WaitTimeSeconds: 1, MaxNumberOfMessages: 10})
					if err != nil {
						continue
					}
					for _, m := range out.Messages {
						// Noted first: what is deleted has been seen.
						mu.Lock()
						seen[*m.Body] = true
						mu.Unlock()
						_, _ = c.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &at, ReceiptHandle: m.ReceiptHandle}) // if not, it comes again
					}
				}
			})
		}
		<-stop
		cancel()
		wg.Wait()
	}
	for range 3 {
		mu.Lock()
		goal := len(sent) + 100
		mu.Unlock()
		stop, done := make(chan struct{}), make(chan struct{})
		go func() { work(s, stop); close(done) }()
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
			mu.Lock()
			reached := len(sent) >= goal
			mu.Unlock()
			if reached {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("hardly anything is sent")
			}
		}
		s.kill9()
		close(stop)
		<-done
		s = startIn(t, s.dir)
	}
	at, c := s.endpoint+"/000000000000"+path, s.queues()
	for deadline := time.Now().Add(2 * time.Minute); len(missingOf(sent, seen)) > 0 && time.Now().Before(deadline); {
		out, err := c.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{QueueUrl: &at, WaitTimeSeconds: 2, MaxNumberOfMessages: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range out.Messages {
			seen[*m.Body] = true
			if _, err := c.DeleteMessage(context.Background(), &sqs.DeleteMessageInput{QueueUrl: &at, ReceiptHandle: m.ReceiptHandle}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if lost := missingOf(sent, seen); len(lost) > 0 {
		t.Errorf("of %d acknowledged messages %d were never received: %v", len(sent), len(lost), lost[:min(len(lost), 10)])
	}
	fmt.Fprintf(s.log, "%d messages over three kills\n", len(sent))
}

// missingOf is what was sent and not seen.
func missingOf(sent, seen map[string]bool) (lost []string) {
	for body := range sent {
		if !seen[body] {
			lost = append(lost, body)
		}
	}
	return lost
}
