package server

import (
	"encoding/json"
	"net/url"
	"reflect"
	"testing"

	"github.com/hearth-faas/hearth"
)

func TestServicesAreAskedAsTheirClientsAsk(t *testing.T) {
	b, err := queryOf("SendMessage", map[string]string{
		"QueueUrl": "http://h/1/q", "MessageBody": "a=b&c", "Region": "us-east-1", "AttributeNames": `["A","B"]`, "MessageAttributeNames": "All",
		"MessageAttributes": `{"y":{"DataType":"Number","StringValue":"1"},"x":{"DataType":"String","StringValue":"2"}}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	form, err := url.ParseQuery(string(b))
	want := url.Values{
		"Action": {"SendMessage"}, "Version": {"2012-11-05"}, "QueueUrl": {"http://h/1/q"}, "MessageBody": {"a=b&c"},
		"AttributeName.1": {"A"}, "AttributeName.2": {"B"}, "MessageAttributeName.1": {"All"},
		"MessageAttribute.1.Name": {"x"}, "MessageAttribute.1.Value.DataType": {"String"}, "MessageAttribute.1.Value.StringValue": {"2"},
		"MessageAttribute.2.Name": {"y"}, "MessageAttribute.2.Value.DataType": {"Number"}, "MessageAttribute.2.Value.StringValue": {"1"},
	}
	if err != nil || !reflect.DeepEqual(form, want) {
		t.Errorf("%v, %v", form, err)
	}
	for name, value := range map[string]string{"AttributeNames": "[1", "MessageAttributes": "x"} {
		if _, err := queryOf("SendMessage", map[string]string{name: value}); hearth.KindOf(err) != hearth.Validation {
			t.Errorf("%s %s: %v", name, value, err)
		}
	}
	for at, want := range map[string]any{"2026-01-02T03:04:05Z": "2026-01-02T03:04:05Z", "1767323045": 1767323045.0} {
		b, err := entriesOf(map[string]string{"Source": "s", "DetailType": "t", "Detail": "{}", "Time": at, "Resources": "r"})
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		entry := map[string]any{"Source": "s", "DetailType": "t", "Detail": "{}", "Time": want, "Resources": []any{"r"}}
		if !reflect.DeepEqual(got, map[string]any{"Entries": []any{entry}}) {
			t.Errorf("%s", b)
		}
	}
}
