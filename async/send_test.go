package async

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

type sender func(arn string, body []byte, attributes map[string]string) error

func (s sender) Send(_ context.Context, arn string, body []byte, attributes map[string]string) error {
	return s(arn, body, attributes)
}

func TestWhatCannotBeDeliveredIsTriedAgainAndThenParked(t *testing.T) {
	var tries atomic.Int64
	var failures atomic.Int64 // before one succeeds
	bodies := make(chan []byte, 1)
	policy := Policy{MaxAge: time.Hour, OnFailure: "arn:aws:s3:::records"}
	w := newWorld(t, t.TempDir(), func(*hearth.Invocation) (*hearth.Result, error) {
		return &hearth.Result{FunctionError: "Unhandled", Payload: []byte(`{}`)}, nil
	}, func(c *Config) {
		c.Policy = func(hearth.Account, string, string) Policy { return policy }
		c.Senders = map[string]Sender{"s3": sender(func(arn string, body []byte, attributes map[string]string) error {
			if tries.Add(1) <= failures.Load() {
				return errors.New("out for lunch")
			}
			if arn != policy.OnFailure || attributes != nil {
				t.Errorf("sent to %s with %v", arn, attributes)
			}
			bodies <- body
			return nil
		})}
	})
	defer w.close()
	ended := func(n uint64) {
		t.Helper()
		for end := time.Now().Add(time.Minute); w.Counts().Failed < n; time.Sleep(time.Millisecond) {
			w.clock.Advance(sendPause)
			if time.Now().After(end) {
				t.Fatalf("it never ended: %+v", w.Counts())
			}
		}
	}
	parked := func() (all []Parked) {
		t.Helper()
		if err := w.Parked(context.Background(), account, func(p Parked) bool { all = append(all, p); return true }); err != nil {
			t.Fatal(err)
		}
		return all
	}

	failures.Store(sendTries - 1)
	id := w.accept("f", `{"n":1}`)
	ended(1)
	var record invocationRecord
	if err := json.Unmarshal(<-bodies, &record); err != nil || record.RequestContext.RequestID != id || record.RequestContext.Condition != "RetriesExhausted" || record.RequestContext.Invocations != 1 {
		t.Errorf("the record is %+v (%v)", record, err)
	}
	if p := parked(); len(p) != 0 {
		t.Errorf("parked although it was delivered: %+v", p)
	}

	tries.Store(0)
	failures.Store(sendTries)
	w.accept("f", `{"n":2}`)
	ended(2)
	if p := parked(); len(p) != 1 || p[0].Reason != "could not be sent to arn:aws:s3:::records: out for lunch" || string(p[0].Payload) != `{"n":2}` {
		t.Errorf("parked %+v", p)
	}

	policy.OnFailure = "arn:aws:sns:us-east-1:111111111111:topic"
	w.accept("f", `{"n":3}`)
	ended(3)
	if p := parked(); len(p) != 2 || !strings.HasPrefix(p[1].Reason, "nothing here delivers to "+policy.OnFailure+": give the function a destination") {
		t.Errorf("parked %+v", p)
	}
}
