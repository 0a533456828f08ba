package poll

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/event"
)

// sent takes what a destination is told.
type sent struct {
	err    error
	bodies []string
}

func (s *sent) Send(_ context.Context, _ string, body []byte, _ map[string]string) error {
	if s.err == nil {
		s.bodies = append(s.bodies, string(body))
	}
	return s.err
}

func TestADestinationIsToldInTheServicesForm(t *testing.T) {
	for _, away := range []bool{false, true} {
		err := bubble(t, func(t *testing.T) error {
			src, to := newStream("s-0"), &sent{}
			if away {
				to.err = errors.New("the queue is away")
			}
			w := newWorld(t, OpenerFunc(src.Open2), newMemory(), func(c *Config) { c.Senders = map[string]Sender{"sqs": to} })
			w.do = func([]string) (string, error) { return "fail", nil }
			stop := w.run(streamMapping(func(m *event.Mapping) {
				m.Settings.MaxRetries, m.Settings.OnFailure = new(1), "arn:aws:sqs:us-east-1:111111111111:dead"
			}))
			src.put("s-0", "r1", "")
			src.put("s-0", "r2", "")
			err := w.until("the batch is given up", func() bool { return src.at("s-0") == "2" })
			stop()
			if err != nil {
				return err
			}
			if away {
				if !strings.Contains(w.parked["r1"], "could not be sent to arn:aws:sqs") {
					return fmt.Errorf("parked: %v", w.parked)
				}
				return nil
			}
			var r struct {
				Version, Timestamp string
				RequestContext     struct {
					RequestID, FunctionARN, Condition string
					Invokes                           int `json:"approximateInvokeCount"`
				}
				ResponseContext struct {
					StatusCode                     int
					ExecutedVersion, FunctionError string
				}
				BatchInfo struct {
					ShardID   string
					BatchSize int
				}
				Payload *string
			}
			if len(to.bodies) != 1 || len(w.parked) != 0 {
				return fmt.Errorf("told %v, parked %v", to.bodies, w.parked)
			}
			if err := json.Unmarshal([]byte(to.bodies[0]), &r); err != nil {
				return err
			}
			if r.Version != "1.0" || r.RequestContext.Condition != "RetryAttemptsExhausted" || r.RequestContext.Invokes != 2 ||
				r.RequestContext.FunctionARN != "arn:aws:lambda:us-east-1:111111111111:function:f" ||
				r.ResponseContext.StatusCode != 200 || r.ResponseContext.FunctionError != "Unhandled" || r.ResponseContext.ExecutedVersion != "$LATEST" ||
				r.BatchInfo.ShardID != "s-0" || r.BatchInfo.BatchSize != 2 || r.Payload != nil {
				return fmt.Errorf("told %s", to.bodies[0])
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestRecordsThatAreTooOldAreNotRun(t *testing.T) {
	err := bubble(t, func(t *testing.T) error {
		src := newStream("s-0")
		w := newWorld(t, OpenerFunc(src.Open2), newMemory())
		src.put("s-0", "old", "")
		time.Sleep(2 * time.Minute)
		src.put("s-0", "young", "")
		stop := w.run(streamMapping(func(m *event.Mapping) { m.Settings.MaxAgeSeconds = new(60) }))
		err := w.until("both are dealt with", func() bool { return src.at("s-0") == "2" })
		stop()
		if err != nil || w.parked["old"] != "RecordAgeExceeded" || w.processed["old"] != 0 || w.processed["young"] != 1 {
			return fmt.Errorf("%v, processed %v, parked %v", err, w.processed, w.parked)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A source that counts deliveries gets what failed back, and decides itself.
func TestWhatASourceRedeliversIsReleasedToIt(t *testing.T) {
	err := bubble(t, func(t *testing.T) error {
		q := newQueue(Traits{Redelivers: true, Hold: 30 * time.Second})
		w := newWorld(t, q, nil)
		w.do = func(ids []string) (string, error) {
			if slices.Contains(ids, "poison") {
				return "fail", nil
			}
			return "null", nil
		}
		stop := w.run(queueMapping(single))
		q.put("good", "poison")
		err := w.until("its own dead-letter queue has it", func() bool { return q.left() == 0 })
		stop()
		if err != nil || w.processed["good"] != 1 || len(w.parked) != 0 || len(w.calls) != 4 {
			return fmt.Errorf("%v, processed %v, parked %v, calls %v", err, w.processed, w.parked, w.calls)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// What a filter does not match is acknowledged and runs nobody's code; what is
// no JSON object matches nothing.
func TestFiltersLetThroughWhatOneOfThemMatches(t *testing.T) {
	err := bubble(t, func(t *testing.T) error {
		q := newQueue(Traits{})
		w := newWorld(t, q, nil)
		stop := w.run(queueMapping(func(m *event.Mapping) { m.Settings.Filters = []string{`{"ID":[{"prefix":"a"}]}`, `{"ID":["b1"]}`} }))
		q.put("a1", "b1", "b2", "a2", "c")
		err := w.until("all are gone", func() bool { return q.left() == 0 })
		stop()
		if err != nil || len(w.processed) != 3 || w.processed["b2"]+w.processed["c"] != 0 {
			return fmt.Errorf("%v, processed %v", err, w.processed)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// How it goes is told when it changes, in the service's words.
func TestTheLastResultIsToldWhenItChanges(t *testing.T) {
	err := bubble(t, func(t *testing.T) error {
		q := newQueue(Traits{})
		w := newWorld(t, q, nil)
		failing := false
		w.do = func([]string) (string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if failing {
				return "fail", nil
			}
			return "null", nil
		}
		stop := w.run(queueMapping(single, func(m *event.Mapping) { m.Settings.MaxRetries = new(0) }))
		q.put(ids("a", 20)...)
		err := w.until("the first are done", func() bool { return q.left() == 0 })
		time.Sleep(2 * betweenReports)
		w.mu.Lock()
		failing = true
		w.mu.Unlock()
		q.put("bad")
		err = errors.Join(err, w.until("the bad one is parked", func() bool { return q.left() == 0 }))
		time.Sleep(2 * betweenReports)
		w.mu.Lock()
		failing = false
		w.mu.Unlock()
		q.mu.Lock()
		q.fails = 1
		q.mu.Unlock()
		time.Sleep(longTake) // until the next take, and the pause after it
		q.put("good")
		err = errors.Join(err, w.until("the good one is done", func() bool { return q.left() == 0 }))
		stop()
		want := []string{"OK", "PROBLEM: Function call failed", "PROBLEM: the queue is away", "OK"}
		if err != nil || !slices.Equal(w.reports, want) {
			return fmt.Errorf("%v, told %q", err, w.reports)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAnAnswerNamesWhatFailed(t *testing.T) {
	for answer, want := range map[string]string{
		"": "", "null": "", `"text"`: "", "3": "", "{}": "", `{"batchItemFailures":null}`: "", `{"batchItemFailures":[]}`: "",
		`{"batchItemFailures":[{"itemIdentifier":"b"},{"itemIdentifier":"a"}]}`: "a b",
		`{"batchItemFailures":[{"itemIdentifier":""}]}`:                         "error",
		`{"batchItemFailures":[{"itemIdentifier":"z"}]}`:                        "error",
		`{"batchItemFailures":[{}]}`:                                            "error",
		`{"batchItemFailures":[{"itemIdentifier":{"x":1}}]}`:                    "error",
		`{"batchItemFailures":3}`:                                               "error",
		"{":                                                                     "error",
	} {
		records := []*Record{{ID: "a"}, {ID: "b"}, {ID: "c"}}
		raw, err := itemFailures([]byte(answer))
		var found []*Record
		if err == nil {
			found, err = named(newQueue(Traits{}), records, raw)
		}
		var got []string
		for _, r := range found {
			got = append(got, r.ID)
		}
		if text := strings.Join(got, " "); (err != nil) != (want == "error") || err == nil && text != want {
			t.Errorf("%s: %q %v, want %q", answer, text, err, want)
		}
	}
}
