package logs

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// FilterQuery selects events of a group.
type FilterQuery struct {
	Streams   []string  // empty: all
	Prefix    string    // of the streams' names
	From, To  time.Time // both inclusive; zero times are no bounds
	RequestID string    // "": all
	// Match says which messages are wanted; nil is all. See ParsePattern.
	Match func(message string) bool
	Token string
	Max   int // 0: 10,000
}

// filter is a FilterQuery made ready.
type filter struct {
	FilterQuery
	from position
}

func newFilter(q FilterQuery) (*filter, error) {
	f := &filter{FilterQuery: q}
	if q.Token != "" {
		kind, p, err := parseToken(q.Token)
		if err != nil || kind != 'n' {
			return nil, badToken()
		}
		f.from = p
	}
	if f.Max <= 0 || f.Max > 10000 {
		f.Max = 10000
	}
	return f, nil
}

func (f *filter) wants(stream string) bool {
	return strings.HasPrefix(stream, f.Prefix) && (len(f.Streams) == 0 || slices.Contains(f.Streams, stream))
}

// Filter returns a page of the events that q selects, in the order in which
// they came, and the token of the next page, "" at the end. Errors: NotFound,
// InvalidParameter.
func (s *Store) Filter(ctx context.Context, account hearth.Account, group string, q FilterQuery) (page []Event, next string, err error) {
	f, err := newFilter(q)
	if err != nil {
		return nil, "", err
	}
	page, more, err := s.filter(ctx, account, group, f)
	if err != nil || !more {
		return page, "", err
	}
	return page, f.from.token('n'), nil
}

// filter reads a page from f.from on and moves that behind the page; more says
// that the page was full.
func (s *Store) filter(ctx context.Context, account hearth.Account, group string, f *filter) (page []Event, more bool, err error) {
	v, err := s.look(account, group, f.wants)
	if err != nil {
		return nil, false, err
	}
	size := 0
	for i := range v.segs {
		sv := &v.segs[i]
		if sv.seq < f.from.seq || !sv.overlaps(f.From, f.To) {
			continue
		}
		offset := int64(0)
		if sv.seq == f.from.seq {
			offset = f.from.off
		}
		err := sv.scan(offset, func(p, after position, stream string, r *record) bool {
			if f.wants(stream) && within(r.at, f.From, f.To) &&
				(f.RequestID == "" || string(r.request) == f.RequestID) && (f.Match == nil || f.Match(string(r.text))) {
				page = append(page, eventOf(p, stream, r))
				size += len(r.text)
				more = len(page) >= f.Max || size >= maxPage
			}
			f.from = after
			return !more && ctx.Err() == nil
		})
		if err != nil {
			return nil, false, s.unreadable(group, err)
		}
		if err := ctx.Err(); err != nil {
			return nil, false, hearth.Errorf(hearth.Canceled, "the caller has gone: %w", err)
		}
		if more {
			return page, true, nil
		}
	}
	if v.end.compare(f.from) > 0 {
		f.from = v.end
	}
	return page, false, nil
}

// Follow emits the events that q selects, those that are there and then those
// that come, until ctx ends, which is no error, or emit returns an error, which
// is returned. A group need not exist yet.
func (s *Store) Follow(ctx context.Context, account hearth.Account, group string, q FilterQuery, emit func(Event) error) error {
	f, err := newFilter(q)
	if err != nil {
		return err
	}
	for {
		s.disk.RLock()
		changed := s.changed
		s.disk.RUnlock()
		page, more, err := s.filter(ctx, account, group, f)
		if err != nil && hearth.KindOf(err) != hearth.NotFound {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		for _, e := range page {
			if err := emit(e); err != nil {
				return err
			}
		}
		if more {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		case <-s.stopped:
			return nil
		}
	}
}
