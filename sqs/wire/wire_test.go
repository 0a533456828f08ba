package wire

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/awsjson"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/sqs"
	"github.com/hearth-faas/hearth/store/sqlite"
)

func newAPI(t testing.TB) awsjson.Handler {
	t.Helper()
	st, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	q, err := sqs.Open(t.Context(), sqs.Config{Store: st, Clock: clock.NewFake(time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return New(q)
}

// ask sends a request in the JSON protocol if op is given, else in the query
// protocol.
func ask(h awsjson.Handler, op, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "http://hearth:1"+path, nil)
	if op != "" {
		r.Header.Set("X-Amz-Target", "AmazonSQS."+op)
	}
	w := httptest.NewRecorder()
	_ = h.Serve(w, &awsjson.Request{
		Caller: hearth.Identity{Account: "000000000000", UserID: "me"}, RequestID: "id", HTTP: r, Body: []byte(body),
	}) // the answer tells it too
	return w
}

func TestBothProtocolsAnswerTheSame(t *testing.T) {
	h := newAPI(t)
	steps := []struct{ op, in, form, json, xml string }{
		{"CreateQueue", `{"QueueName":"q","Attributes":{"DelaySeconds":"0"},"tags":{"k":"v"}}`, "QueueName=q&Attribute.1.Name=DelaySeconds&Attribute.1.Value=0",
			`{"QueueUrl":"http://hearth:1/000000000000/q"}`, `<QueueUrl>http://hearth:1/000000000000/q</QueueUrl>`},
		{"GetQueueUrl", `{"QueueName":"q"}`, "QueueName=q", `{"QueueUrl":"http://hearth:1/000000000000/q"}`, `<QueueUrl>http://hearth:1/000000000000/q</QueueUrl>`},
		{"ListQueues", `{}`, "", `{"QueueUrls":["http://hearth:1/000000000000/q"]}`, `<QueueUrl>http://hearth:1/000000000000/q</QueueUrl>`},
		{"ListQueueTags", `{"QueueUrl":"http://x/000000000000/q"}`, "QueueUrl=http://x/000000000000/q", `{"Tags":{"k":"v"}}`, `<Tag><Key>k</Key><Value>v</Value></Tag>`},
		{"GetQueueAttributes", `{"QueueUrl":"http://x/000000000000/q","AttributeNames":["QueueArn"]}`, "QueueUrl=http://x/000000000000/q&AttributeName.1=QueueArn",
			`{"Attributes":{"QueueArn":"arn:aws:sqs:us-east-1:000000000000:q"}}`, `<Attribute><Name>QueueArn</Name><Value>arn:aws:sqs:us-east-1:000000000000:q</Value></Attribute>`},
		{"DeleteMessageBatch", `{"QueueUrl":"/000000000000/q","Entries":[{"Id":"a","ReceiptHandle":"x"}]}`, "QueueUrl=/000000000000/q&DeleteMessageBatchRequestEntry.1.Id=a&DeleteMessageBatchRequestEntry.1.ReceiptHandle=x",
			`{"Successful":[],"Failed":[{"Id":"a","SenderFault":true,"Code":"ReceiptHandleIsInvalid","Message":"The input receipt handle \"x\" is not a valid receipt handle of this queue."}]}`,
			`<BatchResultErrorEntry><Id>a</Id><SenderFault>true</SenderFault><Code>ReceiptHandleIsInvalid</Code><Message>The input receipt handle &#34;x&#34; is not a valid receipt handle of this queue.</Message></BatchResultErrorEntry>`},
		{"ReceiveMessage", `{"QueueUrl":"/000000000000/q"}`, "QueueUrl=/000000000000/q", `{}`, ``},
	}
	for _, s := range steps {
		if w := ask(h, s.op, "/", s.in); w.Code != 200 || w.Body.String() != s.json {
			t.Errorf("%s: %d %s", s.op, w.Code, w.Body)
		}
		want := `<?xml version="1.0" encoding="UTF-8"?>` + "\n<" + s.op + `Response xmlns="http://queue.amazonaws.com/doc/2012-11-05/"><` + s.op + "Result>" + s.xml + "</" + s.op +
			"Result><ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></" + s.op + "Response>"
		if w := ask(h, "", "/", "Action="+s.op+"&"+s.form); w.Code != 200 || w.Body.String() != want {
			t.Errorf("%s: %d %s\nwant %s", s.op, w.Code, w.Body, want)
		}
	}
}

func TestErrorsHaveTheNamesThatBothKindsOfClientsKnow(t *testing.T) {
	h := newAPI(t)
	w := ask(h, "SendMessage", "/", `{"QueueUrl":"http://hearth:1/000000000000/none","MessageBody":"x"}`)
	if w.Code != 400 || w.Header().Get("X-Amzn-Query-Error") != "AWS.SimpleQueueService.NonExistentQueue;Sender" || w.Body.String() != `{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}` {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	w = ask(h, "", "/000000000000/none", "Action=SendMessage&MessageBody=x")
	if w.Code != 400 || !strings.Contains(w.Body.String(), "<Type>Sender</Type><Code>AWS.SimpleQueueService.NonExistentQueue</Code>") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for body, code := range map[string]string{
		`{"QueueUrl":"/000000000000/q","Entries":[]}`:                                 "EmptyBatchRequest",
		`{"QueueUrl":"/000000000000/q","Entries":[{"Id":"a"},{"Id":"a"}]}`:            "BatchEntryIdsNotDistinct",
		`{"QueueUrl":"/000000000000/q","Entries":[{"Id":"not good"}]}`:                "InvalidBatchEntryId",
		`{"QueueUrl":"/000000000000/q","Entries":[{},{},{},{},{},{},{},{},{},{},{}]}`: "TooManyEntriesInBatchRequest",
		`{"QueueUrl":7}`: "SerializationException",
		`{}`:             "MissingParameter",
	} {
		if w := ask(h, "DeleteMessageBatch", "/", body); !strings.Contains(w.Body.String(), "com.amazonaws.sqs#"+code+`"`) {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
}

func TestAMessageComesWithWhatWasAskedForOfIt(t *testing.T) {
	h := newAPI(t)
	ask(h, "CreateQueue", "/", `{"QueueName":"q","Attributes":{"VisibilityTimeout":"0"}}`)
	w := ask(h, "SendMessage", "/", `{"QueueUrl":"/000000000000/q","MessageBody":"hello","MessageAttributes":{"a.b":{"DataType":"String","StringValue":"x"},"n":{"DataType":"Number","StringValue":"7"},"bin":{"DataType":"Binary","BinaryValue":"AQI="}},
		"MessageSystemAttributes":{"AWSTraceHeader":{"DataType":"String","StringValue":"Root=1"}}}`)
	var s sent
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil || s.MD5OfMessageBody != "5d41402abc4b2a76b9719d911017c592" || s.MD5OfMessageAttributes == "" || s.MD5OfMessageSystemAttributes == "" {
		t.Fatalf("%s", w.Body)
	}
	for asked, want := range map[string][2]int{
		``: {0, 0}, `,"MessageAttributeNames":["All"],"AttributeNames":["All"]`: {3, 5},
		`,"MessageAttributeNames":["a.*"],"MessageSystemAttributeNames":["SentTimestamp","AWSTraceHeader"]`: {1, 2},
	} {
		var out receiveOutput
		w := ask(h, "ReceiveMessage", "/", `{"QueueUrl":"/000000000000/q"`+asked+`}`)
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || len(out.Messages) != 1 || len(out.Messages[0].MessageAttributes) != want[0] || len(out.Messages[0].Attributes) != want[1] {
			t.Errorf("%s: %s", asked, w.Body)
		} else if want[0] == 3 && out.Messages[0].MD5OfMessageAttributes != s.MD5OfMessageAttributes {
			t.Errorf("the attributes' MD5 is %s, and was %s", out.Messages[0].MD5OfMessageAttributes, s.MD5OfMessageAttributes)
		}
	}
}

// formOf is what an old SDK sends of an input.
func formOf(in sendBatchInput) url.Values {
	f := url.Values{"QueueUrl": {in.QueueUrl}}
	for i, e := range in.Entries {
		p := "SendMessageBatchRequestEntry." + string(rune('1'+i)) + "."
		f.Set(p+"Id", e.Id)
		f.Set(p+"MessageBody", e.MessageBody)
		n := 0
		for name, a := range e.MessageAttributes {
			n++
			q := p + "MessageAttribute." + string(rune('0'+n)) + "."
			f.Set(q+"Name", name)
			f.Set(q+"Value.DataType", a.DataType)
			if a.StringValue != nil {
				f.Set(q+"Value.StringValue", *a.StringValue)
			}
		}
	}
	return f
}

func TestAFormIsReadAsItWasMeant(t *testing.T) {
	in := sendBatchInput{QueueUrl: "u", Entries: []sendEntry{
		{Id: "a", message: message{MessageBody: "b", MessageAttributes: map[string]attributeValue{"x": {DataType: "String", StringValue: new("1")}, "y": {DataType: "Number", StringValue: new("2")}}}},
		{Id: "c", message: message{MessageBody: "d"}},
	}}
	var got sendBatchInput
	if err := readForm(formOf(in), "", reflect.ValueOf(&got).Elem()); err != nil || !reflect.DeepEqual(got, in) {
		t.Errorf("%+v became %+v, %v", in, got, err)
	}
}

func FuzzForm(f *testing.F) {
	h := newAPI(f)
	ask(h, "CreateQueue", "/", `{"QueueName":"q"}`)
	f.Add("Action=SendMessage&MessageBody=x&MessageAttribute.1.Name=a&MessageAttribute.1.Value.DataType=Binary&MessageAttribute.1.Value.BinaryValue=AQ%3D%3D")
	f.Add("Action=ChangeMessageVisibilityBatch&ChangeMessageVisibilityBatchRequestEntry.1.VisibilityTimeout=x")
	f.Add("Action=ReceiveMessage&MaxNumberOfMessages=3&AttributeName.1=All")
	f.Fuzz(func(t *testing.T, form string) {
		if strings.Contains(form, "WaitTime") {
			return // the clock stands still
		}
		w := ask(h, "", "/000000000000/q", form)
		if xml.Unmarshal(w.Body.Bytes(), new(struct{ XMLName xml.Name })) != nil && w.Code == 200 {
			t.Errorf("%q: %d %s", form, w.Code, w.Body)
		}
	})
}
