package poll

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"
)

// maxState bounds the state of a tumbling window, in bytes.
const maxState = 1 << 20

// tumble is the next batch of a shard that is read in tumbling windows: records
// of one window. When a window's time has passed and all its records were
// processed, its function is invoked for the last time with it.
func (s *shardRun) tumble(ctx context.Context) ([]*item, error) {
	for {
		if s.open == nil {
			var first *item
			items, err := s.gather(ctx, 0, time.Time{}, func(it *item) bool {
				if first == nil {
					first = it
				}
				return s.windowOf(it).Equal(s.windowOf(first))
			})
			if err != nil {
				return nil, err
			}
			start := s.windowOf(items[0])
			s.open = &window{Start: start, End: start.Add(s.settings.tumbling)}
			return items, nil
		}
		// A record that comes late, for a window that is closed, is in this one.
		items, err := s.gather(ctx, 0, s.open.End, func(it *item) bool { return !s.windowOf(it).After(s.open.Start) })
		if err != nil || len(items) > 0 {
			return items, err
		}
		if err := s.closeWindow(ctx); err != nil {
			return nil, err
		}
	}
}

// windowOf is the start of the window that a record is in.
func (s *shardRun) windowOf(it *item) time.Time {
	at := it.Sent
	if at.IsZero() {
		at = it.Taken
	}
	return at.UTC().Truncate(s.settings.tumbling)
}

// closeWindow invokes the function for the last time in the window.
func (s *shardRun) closeWindow(ctx context.Context) error {
	b := &batch{ready: s.cfg.Clock.Now()}
	for {
		if b.pause > 0 && sleep(ctx, s.cfg.Clock, b.pause) != nil {
			return errStopped
		}
		if s.place(ctx) != nil {
			return errStopped
		}
		o := s.attempt(s.stream, b, s.windowed(true))
		s.leave()
		switch o.fate {
		case abandoned:
			return errStopped
		case refused:
			b.pause = backoff(b.refusals)
			b.refusals++
			continue
		case failed, unfit:
			b.attempts++
			if reason := s.exhausted(b, o); reason == "" && o.fate == failed {
				b.pause = backoff(b.attempts)
				continue
			}
			if !s.park(s.stream, b, s.id, "RetryAttemptsExhausted", o) {
				return errStopped
			}
		}
		s.mu.Lock()
		s.open, s.point.Window = nil, nil
		s.changed()
		s.mu.Unlock()
		return nil
	}
}

// windowed adds a window's fields to an event.
func (s *shardRun) windowed(final bool) func([]byte, []*Record) ([]byte, error) {
	return func(payload []byte, _ []*Record) ([]byte, error) {
		state := s.open.State
		if state == nil {
			state = json.RawMessage("{}")
		}
		fields, err := json.Marshal(map[string]any{
			"window": map[string]string{"start": s.open.Start.Format(time.RFC3339), "end": s.open.End.Format(time.RFC3339)},
			"state":  state, "shardId": s.id, "eventSourceARN": s.m.Source,
			"isFinalInvokeForWindow": final, "isWindowTerminatedEarly": false,
		})
		if err != nil {
			return nil, err
		}
		payload = bytes.TrimRight(payload, " \n\t")
		if len(payload) < 2 || payload[len(payload)-1] != '}' {
			return nil, errors.New("the event is no JSON object")
		}
		out := payload[: len(payload)-1 : len(payload)-1]
		if len(bytes.TrimSpace(out)) > 1 {
			out = append(out, ',')
		}
		return append(out, fields[1:]...), nil
	}
}

// try attempts a batch, and takes the state that the function answers with.
func (s *shardRun) try(b *batch) outcome {
	if s.settings.tumbling == 0 {
		return s.attempt(s.stream, b, nil)
	}
	o := s.attempt(s.stream, b, s.windowed(false))
	if o.result == nil || o.result.FunctionError != "" {
		return o
	}
	var answer struct {
		State json.RawMessage `json:"state"`
	}
	err := json.Unmarshal(o.result.Payload, &answer)
	switch {
	case err == nil && len(answer.State) > maxState:
		err = errors.New("the state is larger than 1 MB")
	case err == nil && (len(answer.State) == 0 || answer.State[0] != '{'):
		err = errors.New("it has no state")
	}
	if err != nil {
		o.fate, o.failed = failed, b.records
		o.answer = "the answer of a function with tumbling windows cannot be used: " + err.Error()
		return o
	}
	s.open.State = answer.State
	return o
}
