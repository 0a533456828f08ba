package queue

import (
	"net/url"
	"testing"

	"github.com/hearth-faas/hearth/event"
)

func TestTheHostNamesTheRegion(t *testing.T) {
	for text, want := range map[string]string{
		"sqs+https://sqs.eu-west-1.amazonaws.com/1/q":                           "eu-west-1",
		"sqs+https://eu-central-1.queue.amazonaws.com/1/q":                      "eu-central-1",
		"sqs+https://sqs.cn-north-1.amazonaws.com.cn/1/q":                       "cn-north-1",
		"sqs+http://sqs.us-west-2.localhost.localstack.cloud:4566/1/q":          "us-west-2",
		"sqs+https://sqs.eu-west-1.amazonaws.com/1/q?region=ap-south-1":         "ap-south-1",
		"sqs+http://127.0.0.1:9324/1/q":                                         "here",
		"sqs+https://vpce-1.sqs.eu-west-1.vpce.amazonaws.com/1/q?region=a-bc-1": "a-bc-1",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := regionOf(&event.Mapping{Region: "here"}, u); got != want {
			t.Errorf("%s is in %s, want %s", text, got, want)
		}
	}
}
