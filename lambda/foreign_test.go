package lambda

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A tool that sends everything to one endpoint is told what is here, by each
// service's clients' own means of reading errors.
func TestClientsOfOtherServicesAreToldWhatIsHere(t *testing.T) {
	w := newWorld(t)
	day := testNow.Format("20060102")
	for service, c := range map[string]struct {
		header map[string]string
		read   func([]byte) (message string, err error)
	}{
		"s3": {nil, func(b []byte) (string, error) {
			var e struct {
				XMLName       xml.Name `xml:"Error"`
				Code, Message string
				RequestID     string `xml:"RequestId"`
			}
			err := xml.Unmarshal(b, &e)
			if e.Code != "InvalidSignatureException" || len(e.RequestID) != 36 {
				t.Errorf("s3: %+v", e)
			}
			return e.Message, err
		}},
		"sqs": {map[string]string{"X-Amz-Target": "AmazonSQS.ListQueues"}, func(b []byte) (string, error) {
			var e struct{ Message string }
			err := json.Unmarshal(b, &e)
			return e.Message, err
		}},
		"cloudformation": {map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, func(b []byte) (string, error) {
			var e struct{ Error struct{ Message string } }
			err := xml.Unmarshal(b, &e)
			return e.Error.Message, err
		}},
		"apigateway": {nil, func(b []byte) (string, error) {
			var e struct{ Message string }
			err := json.Unmarshal(b, &e)
			return e.Message, err
		}},
	} {
		r, err := http.NewRequest("GET", w.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range c.header {
			r.Header.Set(k, v)
		}
		r.Header.Set("X-Amz-Date", testNow.Format("20060102T150405Z"))
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDROOT/"+day+"/us-east-1/"+service+"/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0", 64))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		message, err := c.read(body)
		if err != nil || resp.StatusCode < 400 || !strings.Contains(message, "Hearth serves lambda, logs, sts, and not '"+service+"'") {
			t.Errorf("%s: %d %q, %v in %s", service, resp.StatusCode, message, err, body)
		}
	}
}
