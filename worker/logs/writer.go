package logs

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// write is the writer's goroutine: it takes the queue and writes it, a batch
// at a time, until the store is closed.
func (s *Store) write() {
	defer close(s.stopped)
	var spare queue
	timer := time.NewTimer(0)
	<-timer.C
	for {
		var done chan struct{}
		select {
		case done = <-s.flushes:
		case <-s.wake:
			timer.Reset(flushAfter)
			select {
			case <-timer.C:
			case done = <-s.flushes:
			case <-s.hurry:
			}
			timer.Stop()
		}
		q := &s.queue
		q.mu.Lock()
		entries, text, closed := q.entries, q.text, q.closed
		q.entries, q.text = spare.entries, spare.text
		close(q.space)
		q.space = make(chan struct{})
		q.mu.Unlock()
		if len(entries) > 0 {
			s.writeBatch(entries, text)
		}
		if done != nil {
			close(done)
		}
		if closed {
			return
		}
		spare.entries, spare.text = recycle(entries), text[:0]
		if cap(text) > 256<<10 && len(text) < cap(text)/4 { // a burst is over
			spare.entries, spare.text = nil, nil
		}
	}
}

// recycle empties entries, and lets go of the streams and strings in them.
func recycle(entries []entry) []entry {
	clear(entries)
	return entries[:0]
}

// writeBatch writes entries, group by group, each with one write.
func (s *Store) writeBatch(entries []entry, text []byte) {
	s.disk.Lock()
	defer s.disk.Unlock()
	var failed error
	for i := range entries {
		if entries[i].stream == nil {
			continue // written with its group
		}
		if err := s.writeGroup(entries[i:], text); err != nil {
			failed = err
		}
	}
	switch {
	case failed != nil && !s.trouble:
		s.opt.Log.Error("the functions' logs can't be written and are lost until they can", "err", failed)
	case failed == nil && s.trouble:
		s.opt.Log.Info("the functions' logs can be written again")
	}
	s.trouble = failed != nil
	if s.bytes > s.opt.MaxBytes {
		s.tidyLocked()
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// writeGroup writes those of entries that are of the first one's group, and
// marks them by taking their stream away. What cannot be written is lost.
func (s *Store) writeGroup(entries []entry, text []byte) error {
	key := entries[0].stream.key
	g, err := s.group(key)
	for err == nil && len(entries) > 0 {
		seg := g.active()
		out := s.out[:0]
		if seg.Size == 0 {
			out = append(out, segmentMagic...)
		}
		n := 0
		for ; n < len(entries) && seg.Size+int64(len(out)) < segmentBytes; n++ {
			e := &entries[n]
			if e.stream == nil || e.stream.key != key {
				continue
			}
			st := e.stream
			if st.segment != seg {
				out = seg.define(out, st)
			}
			out = appendEvent(out, st.number, e.at, e.ingested, e.request, text[e.from:e.to])
			seg.count(st.number, e.at, e.ingested)
			e.stream = nil
		}
		entries = entries[n:]
		err = s.append(g, seg, out)
		if s.out = out; cap(out) > 256<<10 {
			s.out = nil
		}
	}
	for i := range entries {
		if e := &entries[i]; e.stream != nil && e.stream.key == key {
			e.stream = nil
		}
	}
	return err
}

// group finds a group, or makes it.
func (s *Store) group(key groupKey) (*group, error) {
	if g := s.groups[key]; g != nil {
		return g, nil
	}
	return s.makeGroup(key, groupMeta{})
}

// makeGroup makes a group that is not there.
func (s *Store) makeGroup(key groupKey, meta groupMeta) (*group, error) {
	meta.Name, meta.Created = key.name, s.opt.Clock.Now().UnixMilli()
	g := &group{
		account: key.account, name: key.name, meta: meta,
		dir: filepath.Join(s.opt.Dir, string(key.account), dirOf(key.name)),
	}
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		return nil, err
	}
	if err := g.writeMeta(); err != nil {
		return nil, err
	}
	s.groups[key] = g
	return g, nil
}

// active is the segment that is written to, a new one if the last is sealed.
func (g *group) active() *segment {
	if n := len(g.segments); n > 0 && !g.segments[n-1].sealed {
		return g.segments[n-1]
	}
	seg := &segment{Seq: g.nextSeq, byName: make(map[string]uint32)}
	g.nextSeq++
	g.segments = append(g.segments, seg)
	return seg
}

// define numbers a stream in the segment, by a record if it is new there.
func (seg *segment) define(out []byte, st *Stream) []byte {
	number, known := seg.byName[st.name]
	if !known {
		number = uint32(len(seg.Streams))
		seg.byName[st.name] = number
		seg.Streams = append(seg.Streams, &span{Name: st.name, Created: st.created})
		out = appendStream(out, number, st.created, st.name)
	}
	st.segment, st.number = seg, number
	return out
}

// append writes to the end of a segment. The file is opened for each batch:
// there may be as many groups as functions, and a write is rare. After a
// failure the segment is cut back to what it was, and left alone.
func (s *Store) append(g *group, seg *segment, out []byte) error {
	f, err := os.OpenFile(g.path(seg.Seq), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.Write(out)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		seg.sealed, seg.byName = true, nil
		if seg.Size == 0 {
			return errors.Join(err, ignoreMissing(g.remove(seg)))
		}
		return errors.Join(err, os.Truncate(g.path(seg.Seq), seg.Size))
	}
	seg.Size += int64(len(out))
	s.bytes += int64(len(out))
	if seg.Size >= segmentBytes {
		return g.seal(seg)
	}
	return nil
}
