package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
)

func TestEventsSurviveARestartAndATornLastRecordIsDropped(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	s.Stream(account, groupF, "a").Append(start, "id", []byte("one\n"))
	s.Stream(account, groupF, "b").Append(start, "", []byte("two\n"))
	s.Flush()
	s.Stream(account, groupF, "a").Append(start, "id", []byte("three\n"))
	s.Flush()
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*", "*.log"))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	whole, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	// As a crash leaves it: at any length, without the index that Close makes.
	for n := len(whole); n >= 0; n-- {
		copied := t.TempDir()
		to := filepath.Join(copied, string(account), dirOf(groupF))
		if err := os.MkdirAll(to, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, metaFile), []byte(`{"name":"`+groupF+`"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(paths[0])), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // again from the index that the first time left
			r, err := Open(Options{Dir: copied, Clock: clock.NewFake(start)})
			if err != nil {
				t.Fatalf("after %d bytes: %v", n, err)
			}
			page, _, err := r.Filter(t.Context(), account, groupF, FilterQuery{})
			if err != nil {
				t.Fatalf("after %d bytes: %v", n, err)
			}
			var got string
			for _, e := range page {
				got += e.Message
			}
			if !strings.HasPrefix("one\ntwo\nthree\n", got) || n == len(whole) && len(page) != 3 {
				t.Fatalf("after %d bytes: %q", n, got)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestWhatIsAppendedBeforeTheDiskIsKnownIsKeptAfterWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	s.Stream(account, groupF, "a").Append(start, "", []byte("one\n"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// The group's file is a pipe, so that the store waits for what is in it.
	path := filepath.Join(dir, string(account), dirOf(groupF), metaFile)
	meta, err := os.ReadFile(path)
	if err == nil {
		err = errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	s = Begin(Options{Dir: dir, Clock: clock.NewFake(start)})
	s.Stream(account, groupF, "b").Append(start, "", []byte("two\n"))
	select {
	case <-s.loaded:
		t.Fatal("the disk is known before it was read")
	default:
	}
	if err := os.WriteFile(path, meta, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Loaded(); err != nil {
		t.Fatal(err)
	}
	page, _, err := s.Filter(t.Context(), account, groupF, FilterQuery{})
	if err != nil || len(page) != 2 || page[0].Message+page[1].Message != "one\ntwo\n" {
		t.Errorf("%v %v", page, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLogsThatCannotBeReadAreToldAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, string(account), dirOf(groupF), metaFile)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("{"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s := Begin(Options{Dir: dir, Clock: clock.NewFake(start)})
	s.Stream(account, groupF, "a").Append(start, "", []byte("one\n"))
	if err := s.Loaded(); hearth.KindOf(err) != hearth.Service || !strings.Contains(err.Error(), metaFile) {
		t.Errorf("the error is %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); string(b) != "{" || err != nil {
		t.Errorf("the group's file is %q %v", b, err)
	}
	if r, err := Open(Options{Dir: dir, Clock: clock.NewFake(start)}); r != nil || err == nil {
		t.Errorf("opened: %v %v", r, err)
	}
}

func TestDiskIsBounded(t *testing.T) {
	const most = 3 * segmentBytes
	s := open(t, Options{MaxBytes: most, Clock: clock.System()})
	line := append(bytes.Repeat([]byte{'x'}, 64<<10), '\n')
	streams := []*Stream{s.Stream(account, "/g/1", "a"), s.Stream(account, "/g/2", "b")}
	for i := range 400 { // 25 MiB
		streams[i%2].Append(time.Now(), "", line)
		if i%16 == 0 {
			s.Flush()
		}
	}
	s.Flush()
	var onDisk int64
	err := filepath.Walk(s.opt.Dir, func(_ string, i os.FileInfo, err error) error {
		if err == nil && !i.IsDir() {
			onDisk += i.Size()
		}
		return err
	})
	if err != nil || onDisk > most+segmentBytes/4 || onDisk < most/2 {
		t.Errorf("%d bytes on disk, allowed are %d; %v", onDisk, int64(most), err)
	}
	for _, g := range []string{"/g/1", "/g/2"} {
		p, _, err := s.Filter(t.Context(), account, g, FilterQuery{})
		if err != nil || len(p) == 0 {
			t.Error("the newest events are gone:", g, err)
		}
	}
	if s.Lost() > 0 {
		t.Errorf("%d events lost", s.Lost())
	}
}

func TestRetentionRemovesWhatIsTooOldAlsoWhileIdle(t *testing.T) {
	c := clock.NewFake(start)
	s := open(t, Options{Clock: c, Retention: 48 * time.Hour})
	s.Stream(account, groupF, "a").Append(start, "", []byte("old\n"))
	s.Stream(account, "/kept", "a").Append(start, "", []byte("old\n"))
	if err := s.SetRetention(t.Context(), account, "/kept", 7); err != nil {
		t.Fatal(err)
	}
	c.Advance(47 * time.Hour)
	if p, _, err := s.Filter(t.Context(), account, groupF, FilterQuery{}); err != nil || len(p) != 1 {
		t.Error(p, err)
	}
	c.Advance(2 * time.Hour)
	if p, _, err := s.Filter(t.Context(), account, groupF, FilterQuery{}); err != nil || len(p) != 0 {
		t.Error(p, err)
	}
	if p, _, err := s.Filter(t.Context(), account, "/kept", FilterQuery{}); err != nil || len(p) != 1 {
		t.Error(p, err)
	}
	s.Stream(account, groupF, "a").Append(c.Now(), "", []byte("new\n"))
	if p, _, err := s.Filter(t.Context(), account, groupF, FilterQuery{}); err != nil || len(p) != 1 {
		t.Error(p, err)
	}
}

func TestAGroupThatWasMadeOutlivesARestartAndOneThatWasDeletedDoesNot(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	s := open(t, Options{Dir: dir})
	tags := map[string]string{"k": "v"}
	for _, name := range []string{"/made", "/deleted", "/again"} {
		if err := s.CreateGroup(ctx, account, name, NewGroup{Class: "INFREQUENT_ACCESS", Tags: tags}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CreateGroup(ctx, account, "/made", NewGroup{}); hearth.KindOf(err) != hearth.AlreadyExists {
		t.Error(err)
	}
	old := s.Stream(account, "/again", "a")
	old.Append(start, "", []byte("before\n"))
	for _, name := range []string{"/deleted", "/again"} {
		if err := s.DeleteGroup(ctx, account, name); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteGroup(ctx, account, name); hearth.KindOf(err) != hearth.NotFound {
			t.Error(err)
		}
	}
	old.Append(start, "", []byte("after\n"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What a crash leaves of a deletion: the directory by its other name.
	if err := os.Rename(filepath.Join(dir, string(account), dirOf("/made")), filepath.Join(dir, string(account), deletedPrefix+"0")); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	groups, _, err := s.Groups(ctx, account, "", "", 0)
	if err != nil || len(groups) != 1 || groups[0].Name != "/again" || groups[0].Class != "STANDARD" {
		t.Errorf("%+v %v", groups, err)
	}
	if p, _, err := s.Filter(ctx, account, "/again", FilterQuery{}); err != nil || len(p) != 1 || p[0].Message != "after\n" {
		t.Errorf("%+v %v", p, err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, string(account))); err != nil || len(entries) != 1 {
		t.Error(entries, err)
	}
	if err := s.CreateGroup(ctx, account, "/made", NewGroup{Protected: true}); err != nil {
		t.Fatal(err)
	}
	if err := s.TagGroup(ctx, account, "/made", tags); err != nil {
		t.Fatal(err)
	}
	if err := s.SetRetention(ctx, account, "/made", 3); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: dir})
	groups, _, err = s.Groups(ctx, account, "/made", "", 0)
	if err != nil || len(groups) != 1 || groups[0].RetentionDays != 3 || !groups[0].Protected {
		t.Errorf("%+v %v", groups, err)
	}
	if got, err := s.GroupTags(ctx, account, "/made"); err != nil || !maps.Equal(got, tags) {
		t.Error(got, err)
	}
	if err := s.DeleteGroup(ctx, account, "/made"); hearth.KindOf(err) != hearth.Validation {
		t.Error(err)
	}
}

func TestGroupsAndStreamsAreListedInPages(t *testing.T) {
	s := open(t, Options{})
	for i := range 5 {
		for _, stream := range []string{"x", "y", "z"} {
			s.Stream(account, fmt.Sprintf("/g/%d", i), stream).Append(start.Add(time.Duration('z'-stream[0])*time.Second), "", []byte("m\n"))
		}
	}
	s.Stream("111111111111", "/g/other", "x").Append(start, "", []byte("m\n"))
	var groups []string
	for token := ""; ; {
		page, next, err := s.Groups(t.Context(), account, "/g/", token, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range page {
			groups = append(groups, g.Name)
			if g.StoredBytes == 0 || !g.Created.Equal(start.Truncate(time.Millisecond)) {
				t.Errorf("%+v", g)
			}
		}
		if token = next; next == "" {
			break
		}
	}
	if want := []string{"/g/0", "/g/1", "/g/2", "/g/3", "/g/4"}; !slices.Equal(groups, want) {
		t.Error(groups)
	}
	for _, c := range []struct {
		q    StreamQuery
		want string
	}{
		{StreamQuery{}, "xyz"}, {StreamQuery{Descending: true}, "zyx"}, {StreamQuery{ByTime: true}, "zyx"},
		{StreamQuery{ByTime: true, Descending: true}, "xyz"}, {StreamQuery{Prefix: "y"}, "y"},
	} {
		got := ""
		for c.q.Max = 1; ; {
			page, next, err := s.Streams(t.Context(), account, "/g/1", c.q)
			if err != nil {
				t.Fatal(err)
			}
			for _, st := range page {
				got += st.Name
			}
			if c.q.Token = next; next == "" {
				break
			}
		}
		if got != c.want {
			t.Errorf("%+v: %q", c.q, got)
		}
	}
	if _, _, err := s.Streams(t.Context(), account, "/none", StreamQuery{}); hearth.KindOf(err) != hearth.NotFound {
		t.Error(err)
	}
	if _, err := s.Events(t.Context(), account, "/g/1", "none", EventQuery{}); hearth.KindOf(err) != hearth.NotFound {
		t.Error(err)
	}
	if _, err := s.Events(t.Context(), account, "/g/1", "x", EventQuery{Token: "f/nonsense"}); hearth.KindOf(err) != hearth.InvalidParameter {
		t.Error(err)
	}
}

// TestPagesInBothDirectionsGiveEveryEventOnce writes several segments of two
// streams, and reads one of them in pages of any size.
func TestPagesInBothDirectionsGiveEveryEventOnce(t *testing.T) {
	s := open(t, Options{MaxBytes: 1 << 30})
	const n = 200
	var want []string
	a, b := s.Stream(account, groupF, "a"), s.Stream(account, groupF, "b")
	for i := range n {
		m := fmt.Sprintf("%04d%s\n", i, strings.Repeat("x", 30<<10))
		want = append(want, m[:4])
		a.Append(start.Add(time.Duration(i)*time.Second), "", []byte(m))
		b.Append(start.Add(time.Duration(i)*time.Second), "", []byte("of another\n"))
		if i%20 == 0 {
			s.Flush()
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		from, to := rapid.IntRange(0, n-1).Draw(t, "from"), rapid.IntRange(0, n-1).Draw(t, "to")
		if from > to {
			from, to = to, from
		}
		q := EventQuery{
			From: start.Add(time.Duration(from) * time.Second), To: start.Add(time.Duration(to) * time.Second),
			// A page of one event would read a segment for each.
			Max: rapid.IntRange(17, 120).Draw(t, "max"), FromHead: rapid.Bool().Draw(t, "from head"),
		}
		var got []string
		for {
			p, err := s.Events(context.Background(), account, groupF, "a", q)
			if err != nil {
				t.Fatal(err)
			}
			var page []string
			for _, e := range p.Events {
				page = append(page, e.Message[:4])
			}
			token := p.Forward
			if q.FromHead {
				got = append(got, page...)
			} else {
				got, token = append(page, got...), p.Backward
			}
			if len(page) == 0 {
				if token != q.Token {
					t.Fatalf("an empty page changed the token from %s to %s", q.Token, token)
				}
				break
			}
			q.Token = token
		}
		if !slices.Equal(got, want[from:to+1]) {
			t.Fatalf("got %d events, want %d", len(got), to+1-from)
		}
	})
}

func TestFollowSeesWhatWasThereAndWhatComes(t *testing.T) {
	s := open(t, Options{Clock: clock.System()})
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan string)
	done := make(chan error)
	go func() {
		done <- s.Follow(ctx, account, groupF, FilterQuery{Match: func(m string) bool { return m != "no\n" }}, func(e Event) error {
			got <- e.Message
			return nil
		})
	}()
	st := s.Stream(account, groupF, "a")
	for _, m := range []string{"one\n", "no\n", "two\n", "three\n"} {
		st.Append(time.Now(), "", []byte(m))
		if m != "no\n" {
			if g := <-got; g != m {
				t.Errorf("got %q, want %q", g, m)
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestEventsAreDroppedAndCountedWhenTheDiskIsTooSlow(t *testing.T) {
	s := open(t, Options{QueueBytes: 1000, Clock: clock.System(), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	st := s.Stream(account, groupF, "a")
	s.disk.Lock() // a disk that hangs
	line := append(bytes.Repeat([]byte{'x'}, 400), '\n')
	for range 10 {
		st.Append(time.Now(), "", line)
	}
	s.disk.Unlock()
	s.Flush()
	if s.Lost() == 0 {
		t.Fatal("nothing was lost: the queue is not bounded")
	}
	st.Append(time.Now(), "", []byte("after\n"))
	got := messages(t, s, "a")
	if n := len(got); n < 3 || got[n-1] != "after\n" || got[n-2] != fmt.Sprintf("[hearth] %d log events were dropped here: they came faster than the disk takes them.\n", s.Lost()) {
		t.Errorf("%q", got)
	}
}

func TestAFullDiskCostsTheEventsAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, Clock: clock.System(), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	st := s.Stream(account, groupF, "a")
	st.Append(time.Now(), "", []byte("before\n"))
	s.Flush()
	// A directory where the next segment would be makes every write fail.
	group := filepath.Join(dir, string(account), dirOf(groupF))
	s.disk.Lock()
	g := s.groups[groupKey{account, groupF}]
	g.segments[0].sealed = true
	blocked := g.path(g.nextSeq)
	s.disk.Unlock()
	if err := os.MkdirAll(filepath.Join(blocked, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	st.Append(time.Now(), "", []byte("lost\n"))
	s.Flush()
	st.Append(time.Now(), "", []byte("after\n"))
	if got := messages(t, s, "a"); !slices.Equal(got, []string{"before\n", "after\n"}) {
		t.Errorf("%q in %s", got, group)
	}
}

// TestManyWritersAndReaders is the hammer: streams appended to, read, listed
// and tidied at once, each stream's events complete and in order.
func TestManyWritersAndReaders(t *testing.T) {
	s := open(t, Options{Clock: clock.System(), MaxBytes: 1 << 30})
	var all sync.WaitGroup
	for w := range 16 {
		all.Go(func() {
			group, stream := fmt.Sprintf("/g/%d", w%4), fmt.Sprintf("s%d", w)
			st := s.Stream(account, group, stream)
			for i := range 300 {
				st.Append(time.Now(), "", fmt.Appendf(nil, "%d\n", i))
				if i%50 == 0 {
					if _, _, err := s.Filter(t.Context(), account, group, FilterQuery{Max: 10}); err != nil {
						t.Error(err)
					}
					s.tidy()
				}
			}
			p, err := s.Events(t.Context(), account, group, stream, EventQuery{FromHead: true})
			if err != nil || len(p.Events) != 300 {
				t.Errorf("%s: %d events, %v", stream, len(p.Events), err)
				return
			}
			for i, e := range p.Events {
				if e.Message != fmt.Sprintf("%d\n", i) {
					t.Errorf("%s: event %d is %q", stream, i, e.Message)
				}
			}
		})
	}
	all.Wait()
}

func TestGroupNamesStayInTheirDirectory(t *testing.T) {
	for _, name := range []string{"..", ".", "/../../etc", strings.Repeat("/x", 256), "a/b#c", ""} {
		if dir := dirOf(name); dir == "." || dir == ".." || dir == "" || strings.ContainsRune(dir, '/') || len(dir) > 255 {
			t.Errorf("%q is kept in %q", name, dir)
		}
	}
}

// FuzzSegment reads any bytes as a segment: it must end, in order, and give
// back what was written where nothing is damaged.
func FuzzSegment(f *testing.F) {
	b := appendStream(nil, 0, 1, "stream")
	b = appendEvent(b, 0, 5, 7, "request", []byte("message\n"))
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		rr := newRecordReader(bytes.NewReader(b), 0, int64(len(b)))
		var r record
		var seg segment
		var again []byte
		whole := int64(0)
		for {
			off, err := rr.next(&r)
			if off != whole {
				t.Fatalf("a record begins at %d, the one before ended at %d", off, whole)
			}
			if err != nil || seg.note(&r) != nil {
				break
			}
			whole = rr.at
			switch r.kind {
			case recordStream:
				again = appendStream(again, r.stream, r.at, string(r.text))
			case recordEvent:
				again = appendEvent(again, r.stream, r.at, r.ingested, string(r.request), r.text)
			}
		}
		// Numbers may have been written longer than they need be, no record
		// otherwise than it is read.
		if int64(len(again)) > whole || int64(len(again)) == whole && !bytes.Equal(again, b[:whole]) {
			t.Errorf("%x is written as %x", b[:whole], again)
		}
	})
}
