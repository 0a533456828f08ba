package poll

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth/clock"
)

// goneQueue cannot extend what is gone.
type goneQueue struct {
	Queue
	gone     []*Record
	extended []*Record
	during   func() // what happens while it extends
}

func (*goneQueue) Traits() Traits { return Traits{Hold: 1} }

func (q *goneQueue) Extend(_ context.Context, records []*Record) error {
	q.during()
	q.extended = nil
	for _, r := range records {
		if slices.Contains(q.gone, r) {
			return errors.New("it is gone")
		}
		q.extended = append(q.extended, r)
	}
	return nil
}

func TestOnlyWhatIsLostThoughItIsNeededIsTold(t *testing.T) {
	a, b, c := &Record{ID: "a"}, &Record{ID: "b"}, &Record{ID: "c"}
	for what, test := range map[string]struct {
		gone   []*Record
		during func(h *hold)
		warns  bool
		kept   []*Record
	}{
		"nothing":                   {kept: []*Record{a, b, c}},
		"one that is acknowledged":  {gone: []*Record{a}, during: func(h *hold) { h.ending([]*Record{a}) }, kept: []*Record{b, c}},
		"one that was acknowledged": {gone: []*Record{b}, during: func(h *hold) { h.remove([]*Record{b}) }, kept: []*Record{a, c}},
		"all":                       {gone: []*Record{a, b, c}, during: func(h *hold) { h.remove([]*Record{a, b, c}) }},
		"one that is needed":        {gone: []*Record{b}, during: func(h *hold) { h.ending([]*Record{a}) }, warns: true},
	} {
		var log bytes.Buffer
		q := &goneQueue{gone: test.gone}
		h := newHold(&run{Poller: &Poller{cfg: Config{Clock: clock.System()}}, log: slog.New(slog.NewTextHandler(&log, nil))}, q)
		if q.during = func() {}; test.during != nil {
			q.during = func() { test.during(h) }
		}
		all := []*Record{a, b, c}
		h.add(all)
		h.extend(t.Context(), all)
		if warned := strings.Contains(log.String(), "could not be kept"); warned != test.warns || !test.warns && !slices.Equal(q.extended, test.kept) {
			t.Errorf("gone is %s: warned %t, %d extended: %s", what, warned, len(q.extended), log.String())
		}
	}
}
