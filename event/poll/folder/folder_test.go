package folder_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/poll/folder"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// patience is how long what must come may take.
const patience = 2 * time.Minute

func openStore(t testing.TB) store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// open opens dir as a source; query is that of its URL.
func open(t *testing.T, records store.Store, dir, query string) poll.Queue {
	t.Helper()
	u := &url.URL{Scheme: "file", Path: dir, RawQuery: query}
	m := &event.Mapping{ID: "m", Region: "us-east-1", Source: event.SourceARN("us-east-1", "000000000000", "in"), Scheme: "file"}
	s, err := folder.Opener(records, clock.System(), "/private").Open(t.Context(), m, poll.Place{URL: u})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // a test may have closed it
	return s.(poll.Queue)
}

// take takes n records, or all that there are now if n is 0.
func take(t *testing.T, q poll.Queue, n int) (all []*poll.Record) {
	t.Helper()
	wait := patience
	if n == 0 {
		n, wait = 1000, 0
	}
	for len(all) < n {
		got, err := q.Take(t.Context(), n-len(all), wait)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			if wait > 0 {
				t.Fatalf("%d of %d records came", len(all), n)
			}
			break
		}
		all = append(all, got...)
	}
	return all
}

type shown struct {
	EventName string
	S3        struct {
		Bucket struct{ Name string }
		Object struct {
			Key  string
			Size int64
		}
	}
	File struct {
		Path    string
		Content []byte
		Problem string
	}
}

func show(t *testing.T, r *poll.Record) (s shown) {
	t.Helper()
	if err := json.Unmarshal(r.Body, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func keys(t *testing.T, records []*poll.Record) (all []string) {
	t.Helper()
	for _, r := range records {
		all = append(all, show(t, r).S3.Object.Key)
	}
	slices.Sort(all)
	return all
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAFileCountsWhenItIsClosedOrRenamedIn(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	q := open(t, openStore(t), dir, "content=true")
	half, err := os.Create(filepath.Join(dir, "half"))
	must(t, err)
	_, err = half.WriteString("not ")
	must(t, err)
	write(t, filepath.Join(dir, ".hidden"), "x")
	write(t, filepath.Join(outside, "whole file"), "moved")
	must(t, os.Rename(filepath.Join(outside, "whole file"), filepath.Join(dir, "whole file")))
	got := take(t, q, 1)
	if s := show(t, got[0]); s.S3.Object.Key != "whole+file" || s.S3.Bucket.Name != "in" || string(s.File.Content) != "moved" || s.EventName != "ObjectCreated:Put" {
		t.Errorf("renamed in: %+v", s)
	}
	must(t, q.Ack(t.Context(), got))
	_, err = half.WriteString("half any more")
	must(t, err)
	must(t, half.Close())
	if s := show(t, take(t, q, 1)[0]); s.S3.Object.Key != "half" || string(s.File.Content) != "not half any more" || s.S3.Object.Size != 17 {
		t.Errorf("closed: %+v", s)
	}
	if more := take(t, q, 0); len(more) > 0 {
		t.Errorf("and %v", keys(t, more))
	}
}

func TestARestartGivesWhatWasNotAcknowledgedAndWhatCameMeanwhile(t *testing.T) {
	dir, records := t.TempDir(), openStore(t)
	for i := range 5 {
		write(t, filepath.Join(dir, fmt.Sprint("old", i)), "x")
	}
	// What somebody writes while the server starts is not half given.
	unfinished, err := os.Create(filepath.Join(dir, "unfinished"))
	must(t, err)
	q := open(t, records, dir, "")
	got := take(t, q, 5)
	if more := take(t, q, 0); len(more) > 0 {
		t.Errorf("a file that is being written was given: %v", keys(t, more))
	}
	must(t, q.Ack(t.Context(), got[:3]))
	must(t, q.Release(t.Context(), got[3:4], poll.Unused))
	if again := take(t, q, 1); again[0].ID != got[3].ID {
		t.Errorf("released %s, got %s", got[3].ID, again[0].ID)
	}
	must(t, q.Close())
	must(t, unfinished.Close())
	write(t, filepath.Join(dir, "new"), "x")
	q = open(t, records, dir, "")
	again := take(t, q, 4)
	want := append(keys(t, got[3:]), "new", "unfinished")
	slices.Sort(want)
	if k := keys(t, again); !slices.Equal(k, want) {
		t.Errorf("after a restart %v, want %v", k, want)
	}
	must(t, q.Ack(t.Context(), again))
	// One that is changed is another record.
	first := show(t, got[0]).S3.Object.Key
	write(t, filepath.Join(dir, first), "more than before")
	if now := take(t, q, 1); show(t, now[0]).S3.Object.Key != first || now[0].ID == got[0].ID {
		t.Errorf("changed: %s, was %s", now[0].ID, got[0].ID)
	}
}

func TestFoldersBelowAreWatchedIfAsked(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o700))
	write(t, filepath.Join(dir, "a/b/1.csv"), "x")
	write(t, filepath.Join(dir, "a/no.txt"), "x")
	q := open(t, openStore(t), dir, "recursive=true&match=*.csv")
	must(t, os.MkdirAll(filepath.Join(dir, "c/d"), 0o700))
	write(t, filepath.Join(dir, "c/d/2.csv"), "x")
	if got := keys(t, take(t, q, 2)); !slices.Equal(got, []string{"a/b/1.csv", "c/d/2.csv"}) {
		t.Errorf("got %v", got)
	}
}

func TestAFolderThatIsGoneOrPrivateIsAnError(t *testing.T) {
	records, dir := openStore(t), t.TempDir()
	q := open(t, records, dir, "")
	must(t, os.Remove(dir))
	end := time.Now().Add(patience)
	for {
		_, err := q.Take(t.Context(), 1, 10*time.Millisecond)
		if err != nil {
			if !strings.Contains(err.Error(), dir) {
				t.Errorf("the error does not name the folder: %v", err)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatal("a folder that is gone is read on")
		}
	}
	private := t.TempDir()
	for _, path := range []string{private, filepath.Dir(private), filepath.Join(private, "x")} {
		_ = os.Mkdir(filepath.Join(private, "x"), 0o700) // the second time it is there
		_, err := folder.Opener(records, clock.System(), private).Open(t.Context(), &event.Mapping{}, poll.Place{URL: &url.URL{Path: path}})
		if err == nil || !strings.Contains(err.Error(), "Hearth's own") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
