package audit

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/internal/segment"
)

// osFile is a segment on a real disk.
type osFile struct{ *os.File }

func openFile(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// allocate takes room. A file system that can't promise any is let pass: there
// only a write can tell that the disk is full.
func (f osFile) allocate(offset, n int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, offset, n)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// reserve takes room on the disk for all that is on its way, and some more.
// Called with mu held; the writer takes mu to change file and size.
func (l *Log) reserve() error {
	if l.file == nil {
		if err := l.begin(); err != nil {
			return err
		}
	}
	need := int64(l.places+len(l.pending)+1)*maxRecord + ahead
	if err := l.file.allocate(l.size, need); err != nil {
		return err
	}
	l.room = need
	return nil
}

// begin makes the next segment, in place of the current one if there is one.
// Called with mu held.
func (l *Log) begin() error {
	first := l.last.Seq + 1
	path := l.files.Path(first)
	line, next, err := l.chain.appendLine(nil, l.last.Link, header{formatVersion, first})
	if err != nil {
		return err
	}
	f, err := l.open(path)
	if err != nil {
		return err
	}
	err = f.Truncate(0) // of a run that ended before it had written a record
	if err == nil {
		err = f.allocate(0, ahead)
	}
	if err == nil {
		_, err = f.Write(line)
	}
	if err == nil {
		err = errors.Join(f.Sync(), syncDir(l.cfg.Dir))
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(path))
	}
	if l.file != nil {
		err = l.file.Close() // all in it was synced
	}
	l.files.Add(first)
	l.files.Grew(int64(len(line)))
	l.file, l.size, l.room, l.last.Link, l.began = f, int64(len(line)), ahead-int64(len(line)), next, l.cfg.Clock.Now()
	return err
}

// write is the writer: it writes what there is at once, and syncs once for all
// who wait for it. While nothing is recorded it costs nothing.
func (l *Log) write() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		l.mu.Lock()
		var wait time.Duration
		switch {
		case l.failed != nil, l.dirty, l.folds.any():
			wait = syncEvery
		default:
			wait = time.Hour
		}
		l.mu.Unlock()
		timer.Reset(wait)
		late := false
		select {
		case <-l.wake:
		case <-timer.C:
			late = true
		}
		l.mu.Lock()
		for _, e := range l.folds.due(l.cfg.Clock.Now()) {
			l.keep(&e)
		}
		batch, closed := l.pending, l.closed
		l.pending = nil
		l.mu.Unlock()
		l.commit(batch, late || closed)
		if closed {
			return
		}
	}
}

// commit writes a batch. If that fails, those who wait are told, and the rest
// is kept for another try.
func (l *Log) commit(batch []*entry, sync bool) {
	l.mu.Lock()
	l.tried = l.cfg.Clock.Now()
	err := l.put(batch)
	l.mu.Unlock()
	sync = sync || time.Since(l.synced) >= syncEvery
	for _, e := range batch {
		sync = sync || e.done != nil
	}
	if err == nil && sync && l.dirty {
		err = l.sync()
	}
	l.mu.Lock()
	if err != nil && l.failed == nil {
		l.cfg.Log.Error("the audit log can't be written: changes are refused until it can", "dir", l.cfg.Dir, "error", err)
	} else if err == nil && l.failed != nil {
		l.cfg.Log.Info("the audit log is written again", "dir", l.cfg.Dir)
	}
	l.failed = err
	if err != nil {
		l.room = 0
		kept := make([]*entry, 0, len(batch))
		for _, e := range batch {
			kept = append(kept, &entry{event: e.event})
		}
		l.pending = append(kept, l.pending...)
	}
	l.mu.Unlock()
	for _, e := range batch {
		if e.done != nil {
			e.done <- err
		}
	}
}

// put appends a batch to the current segment. Called with mu held.
func (l *Log) put(batch []*entry) error {
	if len(batch) == 0 {
		if l.failed != nil {
			return l.reserve() // is there room again?
		}
		return nil
	}
	if l.file == nil || l.size >= l.seg || l.cfg.Clock.Now().Sub(l.began) >= l.cfg.Retention/perLog {
		if err := l.turnOver(); err != nil {
			if l.file == nil {
				return err
			}
			l.cfg.Log.Warn("the audit log can't begin a new file, or remove an old one: it goes on in the one it has", "dir", l.cfg.Dir, "error", err)
		}
	}
	b, at := l.buf[:0], l.last
	for _, e := range batch {
		ev := &e.event
		ev.Seq = at.Seq + 1
		if ev.ID == "" {
			ev.ID = newID()
		}
		if ev.Time.IsZero() {
			ev.Time = l.cfg.Clock.Now()
		}
		ev.Time = ev.Time.UTC()
		ev.bound()
		before := len(b)
		var err error
		if b, at.Link, err = l.chain.appendLine(b, at.Link, ev); err != nil {
			return err
		}
		if len(b)-before > maxRecord {
			return fmt.Errorf("a record of %d bytes", len(b)-before) // bound lets none pass
		}
		at.Seq = ev.Seq
	}
	l.buf = b[:0]
	if cap(l.buf) > 1<<20 {
		l.buf = nil
	}
	n, err := l.file.Write(b)
	if err != nil {
		// Half of it may be there: the file ends where it ended before.
		if terr := l.file.Truncate(l.size); terr != nil && n > 0 {
			err = errors.Join(err, terr)
		}
		return err
	}
	l.size += int64(n)
	l.room -= int64(n)
	l.files.Grew(int64(n))
	l.last, l.dirty = at, true
	l.stats.Records += uint64(len(batch))
	l.stats.LastSeq = at.Seq
	return nil
}

// turnOver begins a new segment and removes what is too old or too much. The
// full one goes on where that fails.
func (l *Log) turnOver() error {
	if l.file != nil {
		if err := l.syncFile(); err != nil {
			return err
		}
	}
	if err := l.begin(); err != nil {
		return err
	}
	return l.retain()
}

// retain removes the oldest segments, all but the current one, that are beyond
// the bound, or whose last record is older than the retention. The anchor goes
// first.
func (l *Log) retain() error {
	oldest := l.cfg.Clock.Now().Add(-l.cfg.Retention)
	return l.files.MakeRoom(1, func(s segment.Segment) (bool, error) {
		path := l.files.Path(s.First)
		if l.files.Size()+l.seg <= l.cfg.MaxBytes {
			info, err := os.Stat(path)
			if err != nil || !info.ModTime().Before(oldest) {
				return false, err
			}
		}
		end, err := endOf(path)
		if err != nil {
			return false, err
		}
		return true, l.chain.writeAnchor(l.cfg.Dir, end)
	})
}

func (l *Log) syncFile() error {
	if !l.dirty {
		return nil
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	l.dirty = false
	l.stats.Syncs++
	if err := l.chain.writeHead(l.head, l.turn, l.last); err != nil {
		return err
	}
	l.turn = 1 - l.turn
	return nil
}

// sync makes what was written last. The file is the writer's: only Admit can
// change it meanwhile, and only where there is none.
func (l *Log) sync() error {
	f, last := l.file, l.last
	l.synced = time.Now()
	if err := f.Sync(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dirty = false
	l.stats.Syncs++
	if err := l.chain.writeHead(l.head, l.turn, last); err != nil {
		return err
	}
	l.turn = 1 - l.turn
	return nil
}
