package objects

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"
)

// Parse reads a notification: its records as the service sends them, each JSON.
func Parse(body []byte) (records [][]byte, _ error) {
	var n struct {
		Records []json.RawMessage
	}
	if err := json.Unmarshal(body, &n); err != nil {
		return nil, err
	}
	for _, raw := range n.Records {
		record, err := normal(raw)
		if err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	return records, nil
}

// object is a JSON object.
type object = map[string]any

// in is the object that is in another under a name; nil if there is none.
func in(o object, name string) object {
	inner, _ := o[name].(object)
	return inner
}

// normal is a record as the service sends it. MinIO calls itself the event's
// source, and names the event as it is named where one asks for it. versitygw
// differs in more, of which some would keep aws-lambda-go from reading it.
func normal(raw json.RawMessage) ([]byte, error) {
	var record object
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&record); err != nil {
		return nil, err
	}
	s3 := in(record, "s3")
	bucket, made := in(s3, "bucket"), in(s3, "object")
	name, _ := bucket["name"].(string)
	if name == "" {
		return nil, errors.New("a record names no bucket")
	}
	happened, _ := record["eventName"].(string)
	happened = strings.TrimPrefix(happened, "s3:")
	switch happened {
	case "":
		return nil, errors.New("a record has no eventName")
	case "ObjectRemoved:DeleteObjects": // versitygw: by a request for several
		happened = "ObjectRemoved:Delete"
	}
	record["eventSource"], record["eventName"] = "aws:s3", happened
	if text, _ := record["eventTime"].(string); text != "" {
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			record["eventTime"] = at.UTC().Format("2006-01-02T15:04:05.000Z")
		}
	}
	if restored := in(in(record, "glacierEventData"), "restoreEventData"); restored["lifecycleRestorationExpiryTime"] == "" {
		delete(record, "glacierEventData") // there is no such time
	}
	bucket["arn"] = "arn:aws:s3:::" + name
	principal(in(record, "userIdentity"))
	principal(in(bucket, "ownerIdentity"))
	configuration, _ := s3["configurationId"].(string)
	normalObject(made, asItIs[configuration], strings.HasPrefix(happened, "ObjectRemoved:"))
	return json.Marshal(record)
}

// principal has an identity spelt as the service spells it.
func principal(identity object) {
	if id, ok := identity["PrincipalId"]; ok {
		delete(identity, "PrincipalId")
		identity["principalId"] = id
	}
}

// normalObject has what happened to an object told as the service tells it. plain
// is that its key is as it is, and not the value of a form: with + for a space.
func normalObject(o object, plain, removed bool) {
	if key, ok := o["key"].(string); ok && (plain || !encoded(key)) {
		o["key"] = strings.ReplaceAll(url.QueryEscape(key), "%2F", "/")
	}
	if tag, ok := o["eTag"].(string); ok {
		o["eTag"] = strings.Trim(tag, `"`)
	}
	for _, name := range []string{"eTag", "versionId"} {
		if value, ok := o[name]; ok && value == nil {
			delete(o, name)
		}
	}
	if removed {
		delete(o, "size")
		delete(o, "eTag")
	}
}

// asItIs are versitygw's names of configurations, by which those keys are known
// that are sent as they are.
var asItIs = map[string]bool{"webhook-global": true, "kafka-global": true, "nats-global": true, "rabbitmq-global": true}

// encoded tells whether a key can have been encoded as the value of a form is.
func encoded(key string) bool {
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return false
	}
	_, err := url.QueryUnescape(key)
	return err == nil
}
