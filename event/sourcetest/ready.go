package sourcetest

import (
	"encoding/json"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
)

// Opened opens a mapping's source until the test ends.
func Opened[S poll.Source](t *testing.T, opener poll.Opener, m *event.Mapping, at poll.Place) S {
	t.Helper()
	src, err := opener.Open(t.Context(), m, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	})
	return src.(S)
}

// Take takes from one to most records, and returns their event.
func Take(t *testing.T, q poll.Queue, most int) (payload []byte) {
	t.Helper()
	records, err := q.Take(t.Context(), most, patience)
	if err == nil && len(records) == 0 {
		t.Fatalf("nothing came within %v", patience)
	}
	if err == nil {
		payload, err = q.Event(records)
	}
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// Decode reads an event in one of Lambda's forms.
func Decode[E any](t *testing.T, payload []byte) (e E) {
	t.Helper()
	if err := json.Unmarshal(payload, &e); err != nil {
		t.Errorf("the event is no %T: %v: %s", e, err, payload)
	}
	return e
}

// Queued are the IDs of the messages in an event of a queue's form: Source.IDs of
// most sources.
func Queued(t *testing.T, payload []byte) (ids []string) {
	t.Helper()
	for _, r := range Decode[events.SQSEvent](t, payload).Records {
		ids = append(ids, ID(t, []byte(r.Body)))
	}
	return ids
}
