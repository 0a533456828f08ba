package e2e

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/hearth-faas/hearth/backfill"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/internal/brokers"
)

// s3 sends a request to the S3 server, and demands success.
func s3(t *testing.T, b *brokers.Broker, method, about, body string) http.Header {
	t.Helper()
	h, err := b.S3(t.Context(), method, about, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// atS3 starts a server, in a folder if one is given, which takes what it is told
// to take from the S3 server.
func atS3(t *testing.T, b *brokers.Broker, dir string, args ...string) *server {
	t.Helper()
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp(scratch, "data-"); err != nil {
			t.Fatal(err)
		}
	}
	user := b.S3User()
	return startAs(t, dir, func(c *exec.Cmd) {
		c.Env = append(c.Env, "HEARTH_S3_ACCESS_KEY_ID="+user.AccessKeyID, "HEARTH_S3_SECRET_ACCESS_KEY="+user.SecretAccessKey)
	}, append([]string{"--s3-endpoint", "http://" + b.Addr, "--s3-path-style"}, args...)...)
}

// objectsInPython makes and deletes objects by the ways that clients have.
const objectsInPython = `
import boto3, os
s3 = boto3.client('s3', endpoint_url=os.environ['AWS_ENDPOINT_URL'])
s3.put_object(Bucket='data', Key='in/a b+c%41ü.csv', Body=b'hello')
s3.put_object(Bucket='data', Key='out/x.txt', Body=b'nobody wants it')
parts = s3.create_multipart_upload(Bucket='data', Key='in/parts')['UploadId']
tag = s3.upload_part(Bucket='data', Key='in/parts', UploadId=parts, PartNumber=1, Body=b'one part')['ETag']
s3.complete_multipart_upload(Bucket='data', Key='in/parts', UploadId=parts, MultipartUpload={'Parts': [{'PartNumber': 1, 'ETag': tag}]})
s3.copy_object(Bucket='data', Key='in/copy', CopySource={'Bucket': 'data', 'Key': 'in/a b+c%41ü.csv'})
s3.delete_object(Bucket='data', Key='in/a b+c%41ü.csv')
s3.put_object(Bucket='data', Key='gone+1.csv', Body=b'1')
s3.put_object(Bucket='data', Key='gone 2.csv', Body=b'2')
s3.delete_objects(Bucket='data', Delete={'Objects': [{'Key': 'gone+1.csv'}, {'Key': 'gone 2.csv'}, {'Key': 'out/x.txt'}]})
`

// A real S3 server's notifications, as a real client causes them, are read by
// aws-lambda-go in the function; filters hold; and the function also has what was
// told before the server was killed, and after either was started again.
func TestNotificationsOfARealS3ServerReachTheirFunction(t *testing.T) {
	t.Parallel()
	s := start(t)
	made := document[control.EventSource](s, "source", "add", "uploads", "s3://uploads")
	b := brokers.Start(t, brokers.VersityGW, brokers.Options{
		Notify: s.endpoint + "/_hearth/v1/sources/notify?" + url.Values{"account": {"000000000000"}, "name": {"uploads"}, "token": {made.Token}}.Encode(),
	})
	s3(t, b, http.MethodPut, "/data", "")
	waiting := func() int {
		out, err := s.queues().GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
			QueueUrl:       aws.String(s.endpoint + "/000000000000/hearth-source-uploads"),
			AttributeNames: []sqstypes.QueueAttributeName{"ApproximateNumberOfMessages"},
		})
		if err != nil {
			return 0 // it is made with the first
		}
		var n int
		if _, err := fmt.Sscan(out.Attributes["ApproximateNumberOfMessages"], &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	s3(t, b, http.MethodPut, "/data/in/early", "e")
	s.eventually("the first is told", func() bool { return waiting() == 1 })
	s.kill9()
	s = startIn(t, s.dir, "--listen", strings.TrimPrefix(s.endpoint, "http://"))
	s.deploy(function{name: "objects", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "objects")})
	s.mapping(&lambda.CreateEventSourceMappingInput{
		FunctionName: aws.String("objects"), EventSourceArn: &made.ARN, BatchSize: aws.Int32(10),
		FilterCriteria: &lambdatypes.FilterCriteria{Filters: []lambdatypes.Filter{
			{Pattern: aws.String(`{"eventName": [{"prefix": "ObjectCreated:"}], "s3": {"object": {"key": [{"prefix": "in/"}]}}}`)},
			{Pattern: aws.String(`{"eventName": ["ObjectRemoved:Delete"], "s3": {"object": {"key": [{"suffix": ".csv"}]}}}`)},
		}},
	})
	put := func(way, key, body string) string {
		sum := md5.Sum([]byte(body))
		return fmt.Sprintf("GOT<ObjectCreated:%s data/%s %d %s>", way, key, len(body), hex.EncodeToString(sum[:]))
	}
	s.loggedTimes("objects", map[string]int{put("Put", "in/early", "e"): 1})

	script := filepath.Join(t.TempDir(), "objects.py")
	if err := os.WriteFile(script, []byte(objectsInPython), 0o600); err != nil {
		t.Fatal(err)
	}
	user := b.S3User()
	client := &server{t: t, env: []string{"AWS_ENDPOINT_URL=http://" + b.Addr, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=" + user.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + user.SecretAccessKey}}
	client.run(filepath.Dir(script), "python3", "objects.py")
	s.loggedTimes("objects", map[string]int{ // it tells no size of copies and of what came in parts
		put("Put", "in/a b+c%41ü.csv", "hello"):                                   1,
		"GOT<ObjectCreated:CompleteMultipartUpload data/in/parts 0 ":              1,
		"GOT<ObjectCreated:Copy data/in/copy 0 5d41402abc4b2a76b9719d911017c592>": 1,
		"GOT<ObjectRemoved:Delete data/in/a b+c%41ü.csv 0 >":                      1,
		"GOT<ObjectRemoved:Delete data/gone+1.csv 0 >":                            1,
		"GOT<ObjectRemoved:Delete data/gone 2.csv 0 >":                            1,
	})
	b.Kill()
	b.Start(t) // which tells a test
	s3(t, b, http.MethodPut, "/data/in/again", "a")
	s.loggedTimes("objects", map[string]int{put("Put", "in/again", "a"): 1})
	s.eventually("nothing waits", func() bool { return waiting() == 0 })
	log := s.must("logs", "objects")
	if strings.Contains(log, "WRONG<") || strings.Contains(log, "out/x.txt") || strings.Contains(log, "Put data/gone") || strings.Count(log, "GOT<") != 8 {
		t.Errorf("the function had %s", tail(log, 4000))
	}
}

// A bucket of a real S3 server that has more objects than a page of its listing
// goes through a function, with one that comes while the server is killed.
func TestABackfillGoesThroughARealBucket(t *testing.T) {
	t.Parallel()
	const n = 1500
	b := brokers.Start(t, brokers.VersityGW, brokers.Options{})
	s3(t, b, http.MethodPut, "/set", "")
	key := func(i int) string { return fmt.Sprintf("in/%d/ö %d+&", i%7, i) }
	want := map[string]bool{}
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := w; i < n; i += 8 {
				if _, err := b.S3(t.Context(), http.MethodPut, "/set/"+key(i), []byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		want[key(i)] = true
	}
	all.Wait()
	s3(t, b, http.MethodPut, "/set/other", "x")
	s := atS3(t, b, "")
	s.deploy(function{name: "each", runtime: "python3.11", handler: "app.handler", env: map[string]string{"POISON": "none"},
		files: map[string]string{"queues.py": queuesInPython, "app.py": strings.Replace(s20Function, "0.02", "0", 1)}})
	s.queue("processed", nil)
	id := strings.TrimSpace(s.cli("backfill", "start", "s3://set/in/", "each", "--parallel", "4", "--batch", "10", "--rate", "500", "--detach"))
	s.untilBackfill(id, "under way", 2*time.Minute, func(st backfill.Status) bool { return st.Succeeded > n/5 })
	s.kill9()
	s3(t, b, http.MethodPut, "/set/in/0/before all", "x") // the listing may be past it
	want["in/0/before all"] = true
	s = atS3(t, b, s.dir)
	st := s.untilBackfill(id, "finished", 2*time.Minute, func(st backfill.Status) bool { return st.Status == backfill.Finished })
	done := countCalls(s.told())
	for key := range want {
		if done.times[key] == 0 {
			t.Errorf("%q was never processed", key)
		}
	}
	if len(done.times) != len(want) || st.Found != len(want) || st.Succeeded != len(want) || done.again > 40 {
		t.Errorf("of %d objects %v, and the backfill says %+v", len(want), done, st)
	}
}

// Code comes from a bucket of a real S3 server with versions: the newest, and one
// by its ID.
func TestCodeComesFromAVersionInARealBucket(t *testing.T) {
	t.Parallel()
	b := brokers.Start(t, brokers.VersityGW, brokers.Options{})
	s3(t, b, http.MethodPut, "/code", "")
	s3(t, b, http.MethodPut, "/code?versioning=", `<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>`)
	var versions []string
	for _, says := range []string{"one", "two"} {
		code := zipOf(t, map[string]string{"index.py": "def handler(event, context): return '" + says + "'"})
		versions = append(versions, s3(t, b, http.MethodPut, "/code/f +.zip", string(code)).Get("X-Amz-Version-Id"))
	}
	if slices.Contains(versions, "") || versions[0] == versions[1] {
		t.Fatalf("the versions are %q", versions)
	}
	s := atS3(t, b, "")
	says := func(want string) {
		t.Helper()
		s.waitActive("f")
		if got := string(s.mustInvoke("f", "{}").payload); got != want {
			t.Errorf("it says %s, not %s", got, want)
		}
	}
	s.run("", "aws", "lambda", "create-function", "--function-name", "f", "--runtime", "python3.11", "--handler", "index.handler", "--role", "arn:aws:iam::000000000000:role/r",
		"--code", "S3Bucket=code,S3Key=f +.zip,S3ObjectVersion="+versions[0])
	says(`"one"`)
	s.run("", "aws", "lambda", "update-function-code", "--function-name", "f", "--s3-bucket", "code", "--s3-key", "f +.zip")
	says(`"two"`)
	_, err := s.client().UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{
		FunctionName: aws.String("f"), S3Bucket: aws.String("code"), S3Key: aws.String("none.zip"),
	})
	if err == nil || !strings.Contains(err.Error(), "S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist.") {
		t.Errorf("of an object that is not there: %v", err)
	}
	var told struct{ CodeSha256 string }
	if err := json.Unmarshal([]byte(s.run("", "aws", "lambda", "update-function-code", "--function-name", "f", "--s3-bucket", "code", "--s3-key", "f +.zip",
		"--s3-object-version", versions[0], "--output", "json")), &told); err != nil || told.CodeSha256 == "" {
		t.Errorf("%+v %v", told, err)
	}
	says(`"one"`)
}
