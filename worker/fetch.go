package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// A package comes from the store to this machine as a transfer: in chunks, at
// no more than a rate, into a file beside the unpacked ones. What breaks off is
// taken up where it ended. Only what has the SHA-256 that it is called by is
// unpacked; anything else is fetched anew.

// chunkBytes is how much is asked of the store at once.
const chunkBytes = 256 << 10

// How often a transfer is tried, and how long it waits after the first
// failure; twice as long after each.
const (
	fetchTries = 5
	fetchAgain = 200 * time.Millisecond
)

// fetching is how packages are fetched, and what came of it. Safe for
// concurrent use.
type fetching struct {
	packages Packages
	clock    hearth.Clock
	link     link
	tries    int
	again    time.Duration
	// told hears of the end of each fetch, and of each try that failed. Nil is
	// nobody.
	told func(Fetched)
	log  *slog.Logger // nil is nowhere

	bytes, retries, failures atomic.Uint64
}

// Fetched tells what came of a fetch, or of one try at it.
type Fetched struct {
	Function *hearth.Function // which first asked for it; nil is not known
	Package  hearth.Package
	Try      int   // from 1
	Bytes    int64 // that are here of it
	Took     time.Duration
	Err      error         // nil: it is here
	Again    time.Duration // after an error, when it is tried again; 0 is not
}

// FetchStats is what was fetched of packages since the start.
type FetchStats struct{ Bytes, Retries, Failures uint64 }

// link is the way to the store: what passes over it passes one after another,
// at no more than so many bytes a second.
type link struct {
	perSecond int64 // 0 is any number
	clock     hearth.Clock

	mu   sync.Mutex
	free time.Time // when what was taken has passed
}

// pass waits until n bytes have passed, or ctx has ended.
func (l *link) pass(ctx context.Context, n int) error {
	if l.perSecond <= 0 {
		return ctx.Err()
	}
	l.mu.Lock()
	now := l.clock.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.perSecond) * float64(time.Second)))
	wait := l.free.Sub(now)
	l.mu.Unlock()
	return pause(ctx, l.clock, wait)
}

// pause waits for d, or until ctx has ended.
func pause(ctx context.Context, clock hearth.Clock, d time.Duration) error {
	over := make(chan struct{})
	timer := clock.AfterFunc(d, func() { close(over) })
	defer timer.Stop()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errCorrupt: the package came whole and is not what it is called.
var errCorrupt = errors.New("its SHA-256 is another")

// part is a package as far as it has come.
type part struct {
	file *os.File
	sum  hash.Hash
	have int64
}

func (p *part) drop() error {
	p.sum.Reset()
	p.have = 0
	return p.file.Truncate(0)
}

// fetch brings the package into dir as a file, which the caller closes and
// removes, and returns its size.
func (f *fetching) fetch(ctx context.Context, fn *hearth.Function, p hearth.Package, dir string) (*os.File, int64, error) {
	file, err := os.OpenFile(filepath.Join(dir, ".part-"+p.SHA256), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("code cache: %w", err)
	}
	size, err := f.receive(ctx, fn, p, file)
	if err != nil {
		return nil, 0, errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	return file, size, nil
}

// receive tries until the package is in file, or tries are used up.
func (f *fetching) receive(ctx context.Context, fn *hearth.Function, p hearth.Package, file *os.File) (size int64, err error) {
	began := f.clock.Now()
	got := &part{file: file, sum: sha256.New()}
	for try := 1; ; try++ {
		err := f.transfer(ctx, p, got)
		news := Fetched{Function: fn, Package: p, Try: try, Bytes: got.have, Err: err, Took: f.clock.Now().Sub(began)}
		if errors.Is(err, errCorrupt) {
			if err := got.drop(); err != nil {
				return 0, fmt.Errorf("code cache: %w", err)
			}
		}
		if err != nil && try < f.tries && hearth.KindOf(err) != hearth.NotFound && ctx.Err() == nil {
			news.Again = f.again << (try - 1)
		}
		if f.told != nil {
			f.told(news)
		}
		switch {
		case err == nil:
			return got.have, nil
		case news.Again == 0:
			f.failures.Add(1)
			return 0, unfetched(p, try, err)
		}
		f.retries.Add(1)
		if err := pause(ctx, f.clock, news.Again); err != nil {
			return 0, err
		}
	}
}

// unfetched is the error of a package that could not be fetched; one that is
// not there is told as it is.
func unfetched(p hearth.Package, tries int, err error) error {
	if hearth.KindOf(err) == hearth.NotFound {
		return err
	}
	return &hearth.Error{Op: "worker.fetch", Subject: p.SHA256, Kind: hearth.Service, Err: err,
		Message: fmt.Sprintf("The code package could not be fetched in %d tries: %s.", tries, whyUnfetched(err))}
}

// whyUnfetched is the part of the reason that a function's owner is told.
func whyUnfetched(err error) string {
	if short, ok := errors.AsType[*shortError](err); ok {
		return short.Error()
	}
	if errors.Is(err, errCorrupt) {
		return errCorrupt.Error()
	}
	return "the store does not give it"
}

// shortError: the store has less of a package than it is long.
type shortError struct{ have, want int64 }

func (e *shortError) Error() string {
	return fmt.Sprintf("it ends after %d of %d bytes", e.have, e.want)
}

// transfer brings what is lacking of the package, and checks it.
func (f *fetching) transfer(ctx context.Context, p hearth.Package, got *part) error {
	r, size, err := f.packages.OpenPackage(ctx, p.SHA256)
	if err != nil {
		return err
	}
	defer r.Close()
	if p.Size > 0 {
		size = p.Size
	}
	if got.have > 0 {
		if _, err := r.Seek(got.have, io.SeekStart); err != nil {
			return err
		}
	}
	buf := make([]byte, chunkBytes)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := f.link.pass(ctx, n); err != nil {
				return err
			}
			if _, err := got.file.WriteAt(buf[:n], got.have); err != nil {
				return fmt.Errorf("code cache: %w", err)
			}
			got.sum.Write(buf[:n]) // never fails
			got.have += int64(n)
			f.bytes.Add(uint64(n))
		}
		switch {
		case err == nil && got.have <= size:
			continue
		case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return err
		case got.have < size:
			return &shortError{got.have, size}
		case got.have > size || hex.EncodeToString(got.sum.Sum(nil)) != p.SHA256:
			return errCorrupt
		}
		return nil
	}
}

// fetching is how this worker fetches packages: what comes of it goes to the
// log, and leaves decisions.
func (w *Worker) fetching() *fetching {
	return &fetching{
		packages: w.cfg.Packages, clock: w.cfg.Clock, link: link{perSecond: w.cfg.FetchRate, clock: w.cfg.Clock},
		tries: fetchTries, again: fetchAgain, told: w.fetched, log: w.cfg.Log,
	}
}

// Fetching is what was fetched of packages since the start.
func (w *Worker) Fetching() FetchStats {
	f := w.code.fetching
	return FetchStats{f.bytes.Load(), f.retries.Load(), f.failures.Load()}
}

// fetched records what came of a fetch.
func (w *Worker) fetched(n Fetched) {
	d := hearth.Decision{Kind: hearth.DecisionFetch, Chosen: "fetched",
		Why: fmt.Sprintf("package %.12s: %d bytes in %v, %s", n.Package.SHA256, n.Bytes, n.Took.Round(time.Millisecond), tries(n.Try))}
	if n.Function != nil {
		d.Account, d.Function, d.Version, d.Generation = n.Function.Account, n.Function.Name, n.Function.Version, n.Function.Generation
	}
	switch {
	case n.Err != nil && n.Again > 0:
		d.Chosen = "again"
	case n.Err != nil:
		d.Chosen = "failed"
	}
	if n.Err != nil {
		d.Outcome = string(hearth.KindOf(n.Err))
		d.Why = fmt.Sprintf("package %.12s, try %d: %s", n.Package.SHA256, n.Try, n.Err)
		w.cfg.Log.Warn("a package could not be fetched", "function", d.Function, "sha256", n.Package.SHA256, "try", n.Try, "bytes", n.Bytes, "again", n.Again, "error", n.Err)
	}
	if n.Function != nil && n.Function.Shared != nil { // whose account is not to learn of the code
		d.Owner, d.Why = n.Function.Shared.Owner, fmt.Sprintf("the shared function's package, %s", tries(n.Try))
	}
	if w.cfg.Recorder != nil {
		w.cfg.Recorder.Record(&d)
	}
}

func tries(n int) string {
	if n == 1 {
		return "at the first try"
	}
	return fmt.Sprintf("in %d tries", n)
}

// leftover tells of a transferred file that is no longer needed and stays.
func (f *fetching) leftover(err error) {
	if f.log != nil {
		f.log.Warn("a fetched package's archive could not be removed; the next start removes it", "error", err)
	}
}
