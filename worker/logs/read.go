package logs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// Group is a log group.
type Group struct {
	Name          string
	Created       time.Time
	StoredBytes   int64
	RetentionDays int // 0: the store's default
	Class         string
	Protected     bool // against deletion
}

// StreamInfo is a log stream as it is listed.
type StreamInfo struct {
	Name          string
	Created       time.Time
	FirstEvent    time.Time
	LastEvent     time.Time
	LastIngestion time.Time
}

// Event is one log event.
type Event struct {
	At        time.Time // to the millisecond
	Ingested  time.Time
	Stream    string
	RequestID string // "" outside invocations
	Message   string // ends with a line feed
	ID        string // unique in the group; sorts in the order of ingestion
}

// maxPage bounds the messages of one page of events, in bytes, as the service
// does.
const maxPage = 1 << 20

func noGroup() error {
	return hearth.Errorf(hearth.NotFound, "The specified log group does not exist.")
}

func noStream() error {
	return hearth.Errorf(hearth.NotFound, "The specified log stream does not exist.")
}

func badToken() error {
	return hearth.Errorf(hearth.InvalidParameter, "The specified nextToken is invalid.")
}

// Groups lists an account's groups whose name begins with prefix, by name: at
// most limit of those after token, and the token of the next page, "" at the
// end.
func (s *Store) Groups(_ context.Context, account hearth.Account, prefix, token string, limit int) (page []Group, next string, err error) {
	s.Flush()
	s.disk.RLock()
	defer s.disk.RUnlock()
	var all []Group
	for key, g := range s.groups {
		if key.account != account || !strings.HasPrefix(key.name, prefix) || token != "" && key.name <= token {
			continue
		}
		item := Group{Name: g.name, Created: time.UnixMilli(g.meta.Created), RetentionDays: g.meta.Retention, Class: g.meta.class(), Protected: g.meta.Protected}
		for _, seg := range g.segments {
			item.StoredBytes += seg.Size
		}
		all = append(all, item)
	}
	slices.SortFunc(all, func(a, b Group) int { return strings.Compare(a.Name, b.Name) })
	if limit > 0 && len(all) > limit {
		return all[:limit], all[limit-1].Name, nil
	}
	return all, "", nil
}

// StreamQuery selects streams of a group.
type StreamQuery struct {
	Prefix     string
	ByTime     bool // by the time of the last event, rather than by name
	Descending bool
	Token      string
	Max        int // 0: no limit
}

// Streams lists a group's streams, and the token of the next page, "" at the
// end. Errors: NotFound, InvalidParameter.
func (s *Store) Streams(_ context.Context, account hearth.Account, group string, q StreamQuery) (page []StreamInfo, next string, err error) {
	all, err := s.streams(account, group)
	if err != nil {
		return nil, "", err
	}
	all = slices.DeleteFunc(all, func(i StreamInfo) bool { return !strings.HasPrefix(i.Name, q.Prefix) })
	order := func(a, b StreamInfo) int {
		c := 0
		if q.ByTime {
			c = a.LastEvent.Compare(b.LastEvent)
		}
		if c = cmp.Or(c, strings.Compare(a.Name, b.Name)); q.Descending {
			c = -c
		}
		return c
	}
	slices.SortFunc(all, order)
	if q.Token != "" {
		var after StreamInfo
		var ms int64
		if n, err := fmt.Sscanf(q.Token, "%d/%s", &ms, &after.Name); n != 2 || err != nil {
			return nil, "", badToken()
		}
		after.LastEvent = time.UnixMilli(ms)
		i := slices.IndexFunc(all, func(i StreamInfo) bool { return order(i, after) > 0 })
		if i < 0 {
			return nil, "", nil
		}
		all = all[i:]
	}
	if q.Max > 0 && len(all) > q.Max {
		last := all[q.Max-1]
		return all[:q.Max], fmt.Sprintf("%d/%s", last.LastEvent.UnixMilli(), last.Name), nil
	}
	return all, "", nil
}

// streams merges what a group's segments know of their streams.
func (s *Store) streams(account hearth.Account, group string) ([]StreamInfo, error) {
	s.Flush()
	s.disk.RLock()
	defer s.disk.RUnlock()
	g := s.groups[groupKey{account, group}]
	if g == nil {
		return nil, noGroup()
	}
	merged := make(map[string]StreamInfo)
	for _, seg := range g.segments {
		for _, sp := range seg.Streams {
			i, seen := merged[sp.Name]
			if !seen {
				i = StreamInfo{Name: sp.Name, Created: time.UnixMilli(sp.Created)}
			}
			if sp.Events > 0 {
				if i.FirstEvent.IsZero() {
					i.FirstEvent = time.UnixMilli(sp.First)
				}
				i.LastEvent, i.LastIngestion = time.UnixMilli(sp.Last), time.UnixMilli(sp.Ingested)
			}
			merged[sp.Name] = i
		}
	}
	return slices.Collect(maps.Values(merged)), nil
}

// position is where a record is in a group: of a token, the place between two.
type position struct {
	seq uint64
	off int64
}

func (p position) compare(q position) int {
	return cmp.Or(cmp.Compare(p.seq, q.seq), cmp.Compare(p.off, q.off))
}

func (p position) token(kind byte) string { return fmt.Sprintf("%c/%d/%d", kind, p.seq, p.off) }

func parseToken(token string) (kind byte, p position, err error) {
	if n, err := fmt.Sscanf(token, "%c/%d/%d", &kind, &p.seq, &p.off); n != 3 || err != nil || p.off < 0 {
		return 0, p, badToken()
	}
	return kind, p, nil
}

// view is a group's segments as they are at one moment.
type view struct {
	group *group
	segs  []segmentView
	end   position
}

type segmentView struct {
	seq   uint64
	size  int64
	path  string
	names []string // by number
	first int64    // of its events, ms
	last  int64
}

// look takes a view of a group, after writing what was appended: of the segments
// that hold a stream which want selects.
func (s *Store) look(account hearth.Account, name string, want func(stream string) bool) (*view, error) {
	s.Flush()
	s.disk.RLock()
	defer s.disk.RUnlock()
	g := s.groups[groupKey{account, name}]
	if g == nil {
		return nil, noGroup()
	}
	v := &view{group: g, end: position{seq: g.nextSeq}}
	if n := len(g.segments); n > 0 && !g.segments[n-1].sealed {
		v.end = position{g.segments[n-1].Seq, g.segments[n-1].Size}
	}
	for _, seg := range g.segments {
		sv := segmentView{seq: seg.Seq, size: seg.Size, path: g.path(seg.Seq)}
		found := false
		for _, sp := range seg.Streams {
			sv.names = append(sv.names, sp.Name)
			if sp.Events == 0 || !want(sp.Name) {
				continue
			}
			if !found || sp.First < sv.first {
				sv.first = sp.First
			}
			sv.last = max(sv.last, sp.Last)
			found = true
		}
		if found {
			v.segs = append(v.segs, sv)
		}
	}
	return v, nil
}

// scan reads a segment's events from offset on until visit returns false.
func (sv *segmentView) scan(offset int64, visit func(p, after position, stream string, r *record) bool) error {
	rr, f, err := openRecords(sv.path, offset, sv.size)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // retention was faster
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var r record
	for {
		off, err := rr.next(&r)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s at %d: %w", sv.path, off, err)
		}
		if r.kind != recordEvent || int(r.stream) >= len(sv.names) {
			continue
		}
		if !visit(position{sv.seq, off}, position{sv.seq, rr.at}, sv.names[r.stream], &r) {
			return nil
		}
	}
}

// eventOf makes an Event of a record.
func eventOf(p position, stream string, r *record) Event {
	return Event{
		At: time.UnixMilli(r.at), Ingested: time.UnixMilli(r.ingested), Stream: stream,
		RequestID: string(r.request), Message: string(r.text),
		// 56 digits, as the service's ids have.
		ID: fmt.Sprintf("%028d%028d", p.seq, p.off),
	}
}

// within reports whether an event's time is in [from, to]; zero times are no
// bounds.
func within(at int64, from, to time.Time) bool {
	return (from.IsZero() || at >= from.UnixMilli()) && (to.IsZero() || at <= to.UnixMilli())
}

// overlaps is within for any event of the segment.
func (sv *segmentView) overlaps(from, to time.Time) bool {
	return (from.IsZero() || sv.last >= from.UnixMilli()) && (to.IsZero() || sv.first <= to.UnixMilli())
}

// EventQuery selects a page of one stream's events.
type EventQuery struct {
	From, To time.Time // both inclusive; zero times are no bounds
	FromHead bool      // without a token: the oldest page, rather than the newest
	Token    string
	Max      int // 0: 10,000
}

// EventPage is a page of events, in order of time, with the tokens of the pages
// after and before it, which are always set: at an end the page is empty.
type EventPage struct {
	Events            []Event
	Forward, Backward string
}

// Events returns a page of a stream's events. Errors: NotFound,
// InvalidParameter.
func (s *Store) Events(ctx context.Context, account hearth.Account, group, stream string, q EventQuery) (EventPage, error) {
	if q.Max <= 0 || q.Max > 10000 {
		q.Max = 10000
	}
	v, err := s.look(account, group, func(name string) bool { return name == stream })
	if err != nil {
		return EventPage{}, err
	}
	if len(v.segs) == 0 {
		return EventPage{}, noStream()
	}
	from, until, backward := position{}, v.end, !q.FromHead
	if q.Token != "" {
		kind, p, err := parseToken(q.Token)
		switch {
		case err != nil:
			return EventPage{}, err
		case kind == 'f':
			from, backward = p, false
		case kind == 'b':
			until, backward = p, true
		default:
			return EventPage{}, badToken()
		}
	}
	var page EventPage
	var spans [][2]position // of page.Events
	size := 0
	collect := func(sv *segmentView, full func() bool) error {
		offset := int64(0)
		if sv.seq == from.seq {
			offset = from.off
		}
		return sv.scan(offset, func(p, after position, name string, r *record) bool {
			if p.compare(until) >= 0 {
				return false
			}
			if name == stream && within(r.at, q.From, q.To) {
				page.Events = append(page.Events, eventOf(p, name, r))
				spans = append(spans, [2]position{p, after})
				size += len(r.text)
			}
			return !full() && ctx.Err() == nil
		})
	}
	never := func() bool { return false }
	full := func() bool { return len(page.Events) >= q.Max || size >= maxPage }
	if backward {
		for i := len(v.segs) - 1; i >= 0 && !full(); i-- {
			sv := &v.segs[i]
			if sv.seq > until.seq || !sv.overlaps(q.From, q.To) {
				continue
			}
			later, laterSpans := page.Events, spans
			page.Events, spans = nil, nil
			if err := collect(sv, never); err != nil {
				return EventPage{}, s.unreadable(group, err)
			}
			page.Events, spans = append(page.Events, later...), append(spans, laterSpans...)
		}
		cut, kept := len(page.Events), 0
		for cut > 0 && len(page.Events)-cut < q.Max && kept < maxPage {
			cut--
			kept += len(page.Events[cut].Message)
		}
		page.Events, spans = page.Events[cut:], spans[cut:]
	} else {
		for i := range v.segs {
			sv := &v.segs[i]
			if full() {
				break
			}
			if sv.seq < from.seq || !sv.overlaps(q.From, q.To) {
				continue
			}
			if err := collect(sv, full); err != nil {
				return EventPage{}, s.unreadable(group, err)
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return EventPage{}, hearth.Errorf(hearth.Canceled, "the caller has gone: %w", err)
	}
	switch {
	case len(spans) > 0:
		page.Forward, page.Backward = spans[len(spans)-1][1].token('f'), spans[0][0].token('b')
	case backward:
		page.Forward, page.Backward = until.token('f'), until.token('b')
	default:
		page.Forward, page.Backward = from.token('f'), from.token('b')
	}
	return page, nil
}

func (s *Store) unreadable(group string, err error) error {
	return &hearth.Error{Op: "logs.read", Subject: group, Kind: hearth.Service, Message: "The log could not be read.", Err: err}
}
