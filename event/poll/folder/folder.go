// Package folder reads a folder of files as an event source: each file that is
// closed after writing, or renamed into the folder, is a record. Which files
// were processed, and in which state, is in the store, so that a restart neither
// forgets a file that came while nobody watched nor gives one twice.
package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/store"
)

// Opener opens the folders that registered sources name by file:// URLs, but for
// those in private, which is the server's own:
//
//	?recursive=true   with all folders below
//	?match=*.csv      only files with such names
//	?content=true     with what is in the files, up to MaxContent
func Opener(records store.Store, clock hearth.Clock, private string) poll.Opener {
	return poll.OpenerFunc(func(_ context.Context, m *event.Mapping, at poll.Place) (poll.Source, error) {
		if at.URL == nil {
			return nil, errors.New("where the folder is was not said")
		}
		q := at.URL.Query()
		match := q.Get("match")
		if _, err := filepath.Match(match, ""); err != nil {
			return nil, fmt.Errorf("%q is no pattern of file names: %w", match, err)
		}
		dir := filepath.Clean(at.URL.Path)
		if real, err := filepath.EvalSymlinks(dir); err == nil && private != "" && (within(private, real) || within(real, private)) {
			return nil, fmt.Errorf("the folder %s is, or holds, Hearth's own data", dir)
		}
		_, name, _ := event.ParseSourceARN(m.Source)
		return Open(Config{
			Dir: dir, Name: name, Region: m.Region, Recursive: q.Get("recursive") == "true", Match: match, Content: q.Get("content") == "true",
			Ledger: Ledger{records, m.ID}, Clock: clock,
		})
	})
}

// within tells whether path is dir or below it.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// Config is what a Folder is made of.
type Config struct {
	Dir, Name, Region string
	Recursive         bool
	Match             string // a pattern of filepath.Match; "" is all
	Content           bool   // the records have what is in the files
	Ledger            Ledger
	Clock             hearth.Clock
	Log               *slog.Logger // nil is slog.Default
}

// mostPending bounds how many files that came are known at a time; when they
// are taken the folder is looked through again for the rest.
const mostPending = 10_000

// Folder is a poll.Queue. Files that fail are tried again by the framework.
type Folder struct {
	cfg   Config
	watch *watch

	mu      sync.Mutex
	pending []string // relative paths, each once, in the order of coming
	known   map[string]bool
	held    map[string]bool
	more    bool  // there were too many to know: look again
	err     error // that ended the watching
	change  chan struct{}
	looking sync.WaitGroup
}

var _ poll.Queue = (*Folder)(nil)

// Open watches the folder, then looks through it for what came before.
func Open(cfg Config) (*Folder, error) {
	info, err := os.Stat(cfg.Dir)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the folder cannot be watched: %w", err)
	case !info.IsDir():
		return nil, fmt.Errorf("%s is no folder", cfg.Dir)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	f := &Folder{cfg: cfg, known: map[string]bool{}, held: map[string]bool{}, change: make(chan struct{})}
	if f.watch, err = newWatch(cfg.Dir); err != nil {
		return nil, fmt.Errorf("the folder cannot be watched: %w", err)
	}
	if err := f.sweep(); err != nil {
		f.watch.close()
		return nil, err
	}
	// Watched first, so that nothing falls in between.
	if err := f.look(""); err != nil {
		f.watch.close()
		return nil, err
	}
	f.looking.Go(f.listen)
	return f, nil
}

// sweep forgets the files that were processed and are gone.
func (f *Folder) sweep() error {
	var gone []string
	err := f.cfg.Ledger.each(context.Background(), func(v version) bool {
		if _, err := os.Lstat(filepath.Join(f.cfg.Dir, v.Path)); errors.Is(err, fs.ErrNotExist) {
			gone = append(gone, v.Path)
		}
		return len(gone) < mostPending
	})
	if err != nil || len(gone) == 0 {
		return err
	}
	return f.cfg.Ledger.forget(context.Background(), gone)
}

// listen takes in what the watch sees until it is closed.
func (f *Folder) listen() {
	for {
		seen, err := f.watch.read()
		if err == nil && seen.lost {
			err = f.look("")
		}
		if err != nil {
			f.mu.Lock()
			f.err = err
			f.changed()
			f.mu.Unlock()
			return
		}
		for _, file := range seen.files {
			f.came(file)
		}
		for _, dir := range seen.dirs {
			if !f.cfg.Recursive {
				continue
			}
			// A folder that is gone again has nothing to say.
			if err := f.look(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				f.mu.Lock()
				f.err = err
				f.changed()
				f.mu.Unlock()
				return
			}
		}
		if len(seen.gone) > 0 {
			// What is forgotten too late is in nobody's way: a file of the same
			// name is another version.
			if err := f.cfg.Ledger.forget(context.Background(), seen.gone); err != nil {
				f.cfg.Log.Warn("files that are gone are still noted as processed", "folder", f.cfg.Dir, "error", err)
			}
		}
	}
}

// look looks through a folder, and with Recursive watches those below it.
func (f *Folder) look(dir string) error {
	if err := f.watch.add(dir); err != nil {
		return fmt.Errorf("the folder %s cannot be watched: %w", filepath.Join(f.cfg.Dir, dir), err)
	}
	entries, err := os.ReadDir(filepath.Join(f.cfg.Dir, dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.IsDir() && f.cfg.Recursive && !strings.HasPrefix(e.Name(), "."):
			if err := f.look(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		case e.Type().IsRegular():
			// One that is being written is told when it is closed.
			if writing, err := beingWritten(filepath.Join(f.cfg.Dir, path)); err == nil && !writing {
				f.came(path)
			}
		}
	}
	return nil
}

// came takes in that a file has come, or was changed.
func (f *Folder) came(path string) {
	name := filepath.Base(path)
	if strings.HasPrefix(name, ".") {
		return // editors and copying programs name so what is not finished
	}
	if f.cfg.Match != "" {
		if ok, err := filepath.Match(f.cfg.Match, name); !ok || err != nil {
			return
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.known[path]:
	case len(f.pending) >= mostPending:
		f.more = true
	default:
		f.known[path] = true
		f.pending = append(f.pending, path)
		f.changed()
	}
}

func (f *Folder) changed() {
	close(f.change)
	f.change = make(chan struct{})
}

// Traits implements poll.Queue.
func (f *Folder) Traits() poll.Traits { return poll.Traits{} }

// Take implements poll.Queue.
func (f *Folder) Take(ctx context.Context, most int, wait time.Duration) ([]*poll.Record, error) {
	over := make(chan struct{})
	if wait > 0 {
		t := f.cfg.Clock.AfterFunc(wait, func() { close(over) })
		defer t.Stop()
	} else {
		close(over)
	}
	for {
		records, change, err := f.take(ctx, most)
		if len(records) > 0 || err != nil {
			return records, err
		}
		select {
		case <-change:
			continue
		case <-over:
		case <-ctx.Done():
		}
		return nil, nil
	}
}

// take takes what there is now.
func (f *Folder) take(ctx context.Context, most int) (records []*poll.Record, change chan struct{}, err error) {
	size := 0
	for len(records) < most && size < MaxContent {
		f.mu.Lock()
		change = f.change
		path := ""
		for i, p := range f.pending {
			if !f.held[p] {
				path = p
				f.pending = slices.Delete(f.pending, i, i+1)
				delete(f.known, p)
				f.held[p] = true
				break
			}
		}
		again := path == "" && f.more && len(f.pending) == 0
		if again {
			f.more = false
		}
		failed := f.err
		f.mu.Unlock()
		switch {
		case again:
			if err := f.look(""); err != nil {
				return records, change, err
			}
			continue
		case path == "":
			if len(records) == 0 {
				err = failed
			}
			return records, change, err
		}
		r, err := f.record(ctx, path)
		if err != nil {
			f.unhold(path, true)
			return records, change, err
		}
		if r == nil { // gone again, or known already
			f.unhold(path, false)
			continue
		}
		records = append(records, r)
		size += len(r.Body)
	}
	return records, change, nil
}

// unhold lets go of a path, which is to be taken again or not.
func (f *Folder) unhold(path string, again bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.held, path)
	if again && !f.known[path] {
		f.known[path] = true
		f.pending = append(f.pending, path)
	}
	f.changed()
}

// Ack implements poll.Queue.
func (f *Folder) Ack(ctx context.Context, records []*poll.Record) error {
	versions := make([]version, len(records))
	for i, r := range records {
		versions[i] = r.Handle.(version)
	}
	if err := f.cfg.Ledger.done(ctx, versions); err != nil {
		return err
	}
	for _, v := range versions {
		f.unhold(v.Path, false)
	}
	return nil
}

// Release implements poll.Queue.
func (f *Folder) Release(_ context.Context, records []*poll.Record, _ poll.Reason) error {
	for _, r := range records {
		f.unhold(r.Handle.(version).Path, true)
	}
	return nil
}

// Extend implements poll.Queue.
func (f *Folder) Extend(context.Context, []*poll.Record) error { return nil }

// Event implements poll.Source.
func (f *Folder) Event(records []*poll.Record) ([]byte, error) { return poll.Records(records) }

// View implements poll.Source.
func (f *Folder) View(r *poll.Record) []byte { return r.Body }

// Close implements poll.Source.
func (f *Folder) Close() error {
	err := f.watch.close()
	f.looking.Wait()
	return err
}
