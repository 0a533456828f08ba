package objects_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/hearth-faas/hearth/event/poll/objects"
)

// sent is a notification as versitygw 1.8 sends it, but for what a test changes.
func sent(happened, configuration, key string) []byte {
	quoted, err := json.Marshal(key)
	if err != nil {
		panic(err)
	}
	return []byte(`{"Records":[{"eventVersion":"2.2","eventSource":"aws:s3","awsRegion":"us-east-1","eventTime":"2026-01-02T05:04:05+02:00","eventName":"` + happened + `",
"userIdentity":{"PrincipalId":"access"},"requestParameters":{"sourceIPAddress":"127.0.0.1"},"responseElements":{"x-amz-request-id":"","x-amz-id-2":""},
"s3":{"s3SchemaVersion":"1.0","configurationId":"` + configuration + `","bucket":{"name":"data","ownerIdentity":{"PrincipalId":"access"},"arn":"arn:aws:s3:::/data/in/x"},
"object":{"key":` + string(quoted) + `,"size":5,"eTag":"\"5d41\"","versionId":null,"sequencer":"1A"}},
"glacierEventData":{"restoreEventData":{"lifecycleRestorationExpiryTime":"","lifecycleRestoreStorageClass":""}}}]}`)
}

func TestRecordsHaveTheServicesForm(t *testing.T) {
	for _, c := range []struct {
		happened, configuration, key string
		event, decoded               string
	}{
		{"s3:ObjectCreated:Put", "webhook-global", "in/a b+c%41ü.csv", "ObjectCreated:Put", "in/a b+c%41ü.csv"},
		{"s3:ObjectRemoved:DeleteObjects", "webhook-global", "a+b", "ObjectRemoved:Delete", "a+b"},
		{"s3:ObjectCreated:Copy", "Config", "in%2Fa+b%2Bc", "ObjectCreated:Copy", "in/a b+c"}, // encoded, as the service does
		{"ObjectCreated:Copy", "Config", "in/50%+ü", "ObjectCreated:Copy", "in/50%+ü"},        // can't be encoded
		{"ObjectRemoved:Delete", "Config", "in/a b+c", "ObjectRemoved:Delete", "in/a b+c"},    // nor this
		{"s3:ObjectAcl:Put", "nats-global", "<\"'&>%25", "ObjectAcl:Put", "<\"'&>%25"},
	} {
		records, err := objects.Parse(sent(c.happened, c.configuration, c.key))
		if err != nil || len(records) != 1 {
			t.Fatalf("%+v: %q, %v", c, records, err)
		}
		var r events.S3EventRecord
		if err := json.Unmarshal(records[0], &r); err != nil {
			t.Errorf("%+v: %v in %s", c, err, records[0])
			continue
		}
		removed := c.event == "ObjectRemoved:Delete"
		if r.EventName != c.event || r.S3.Object.URLDecodedKey != c.decoded || !r.EventTime.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) || r.GlacierEventData != nil ||
			r.S3.Bucket.Arn != "arn:aws:s3:::data" || (r.S3.Object.Size == 0) != removed || (r.S3.Object.ETag == "") != removed || !removed && r.S3.Object.ETag != "5d41" {
			t.Errorf("%+v is %s", c, records[0])
		}
		var fields struct {
			EventTime    string
			UserIdentity map[string]string
			S3           struct {
				Bucket struct{ OwnerIdentity map[string]string }
			}
		}
		if err := json.Unmarshal(records[0], &fields); err != nil {
			t.Fatal(err)
		}
		if fields.EventTime != "2026-01-02T03:04:05.000Z" || fields.UserIdentity["principalId"] != "access" || fields.S3.Bucket.OwnerIdentity["principalId"] != "access" {
			t.Errorf("%+v is %s", c, records[0])
		}
	}
	restored := []byte(`{"Records":[{"eventName":"s3:ObjectRestore:Completed","s3":{"bucket":{"name":"b"},"object":{"key":"k"}},"glacierEventData":{"restoreEventData":{"lifecycleRestorationExpiryTime":"2026-01-02T03:04:05Z"}}}]}`)
	records, err := objects.Parse(restored)
	var r events.S3EventRecord
	if err == nil {
		err = json.Unmarshal(records[0], &r)
	}
	if err != nil || r.GlacierEventData == nil {
		t.Errorf("what was restored is %q, %v", records, err)
	}
}
