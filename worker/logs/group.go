package logs

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth"
)

// group is one log group with its segments. Store.disk guards it.
type group struct {
	account  hearth.Account
	name     string
	dir      string
	meta     groupMeta
	segments []*segment // oldest first; only the last is written to
	nextSeq  uint64
}

// groupMeta is a group's file.
type groupMeta struct {
	Name      string `json:"name"`
	Created   int64  `json:"created"` // ms
	Retention int    `json:"retentionDays,omitempty"`
	// Class is "" for the class that groups have which functions made.
	Class     string            `json:"class,omitempty"`
	Protected bool              `json:"protected,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"`
}

func (m *groupMeta) class() string { return cmp.Or(m.Class, "STANDARD") }

const metaFile = "group.json"

// segment is what is known of a segment file.
type segment struct {
	Seq     uint64  `json:"-"`
	Size    int64   `json:"size"` // what was written whole
	Streams []*span `json:"streams"`
	// byName finds a stream's number; only of a segment that is written to.
	byName map[string]uint32
	sealed bool
}

// span is one stream's part of a segment. Times are in ms.
type span struct {
	Name     string `json:"name"`
	Created  int64  `json:"created"`
	First    int64  `json:"first"`
	Last     int64  `json:"last"`
	Ingested int64  `json:"ingested"` // of the last event
	Events   int64  `json:"events"`
}

// dirOf is the directory of a group within its account's: its name, escaped,
// unless that would be too long or special.
func dirOf(name string) string {
	if dir := url.PathEscape(name); len(dir) <= 200 && dir != "." && dir != ".." && dir != "" {
		return dir
	}
	sum := sha256.Sum256([]byte(name))
	return "#" + hex.EncodeToString(sum[:16])
}

func (g *group) path(seq uint64) string {
	return filepath.Join(g.dir, fmt.Sprintf("%010d.log", seq))
}

// indexPath is where a segment's index is kept, once it is sealed, so that it
// need not be read to be known.
func (g *group) indexPath(seq uint64) string {
	return filepath.Join(g.dir, fmt.Sprintf("%010d.idx", seq))
}

// newest is the time of the last event of a segment, in ms.
func (s *segment) newest() (at int64) {
	for _, sp := range s.Streams {
		at = max(at, sp.Ingested, sp.Created)
	}
	return at
}

// note adds a record to what is known of the segment.
func (s *segment) note(r *record) error {
	switch {
	case r.kind == recordStream && int(r.stream) == len(s.Streams):
		s.Streams = append(s.Streams, &span{Name: string(r.text), Created: r.at})
	case r.kind == recordEvent && int(r.stream) < len(s.Streams):
		s.count(r.stream, r.at, r.ingested)
	default:
		return errBad
	}
	return nil
}

// count adds an event to what is known of its stream.
func (s *segment) count(stream uint32, at, ingested int64) {
	sp := s.Streams[stream]
	if sp.Events == 0 || at < sp.First {
		sp.First = at
	}
	sp.Last, sp.Ingested = max(sp.Last, at), max(sp.Ingested, ingested)
	sp.Events++
}

// writeMeta writes the group's file, whole or not at all.
func (g *group) writeMeta() error {
	b, err := json.Marshal(g.meta)
	if err != nil {
		return err
	}
	return replace(filepath.Join(g.dir, metaFile), b)
}

// replace writes a file so that a crash leaves the old or the new one.
func replace(path string, b []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// seal ends a segment's life as the one that is written to, and keeps what is
// known of it in a file, which may fail: the segment itself has it all.
func (g *group) seal(s *segment) error {
	s.sealed, s.byName = true, nil
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return replace(g.indexPath(s.Seq), b)
}

// remove deletes a segment.
func (g *group) remove(s *segment) error {
	i := slices.Index(g.segments, s)
	if i < 0 {
		return nil
	}
	g.segments = slices.Delete(g.segments, i, i+1)
	return g.removeFiles(s.Seq)
}

// openGroup reads what is in a group's directory; nil if it is none.
func openGroup(account hearth.Account, dir string) (*group, error) {
	b, err := os.ReadFile(filepath.Join(dir, metaFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // made halfway, by a process that died
	}
	if err != nil {
		return nil, err
	}
	g := &group{account: account, dir: dir}
	if err := json.Unmarshal(b, &g.meta); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, metaFile), err)
	}
	g.name = g.meta.Name
	entries, err := os.ReadDir(dir) // sorted, and so are the segments
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		number, ok := strings.CutSuffix(e.Name(), ".log")
		if !ok {
			continue
		}
		seq, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			continue
		}
		s, err := g.openSegment(seq)
		if err != nil {
			return nil, err
		}
		g.nextSeq = max(g.nextSeq, seq+1)
		if s != nil {
			g.segments = append(g.segments, s)
		}
	}
	return g, nil
}

// openSegment finds out what a segment holds, from its index if that is of the
// file as it is, otherwise by reading it. What follows the last whole record is
// cut off: a write that a crash interrupted. The segment is not written to
// again. Nil if nothing is left of it.
func (g *group) openSegment(seq uint64) (*segment, error) {
	info, err := os.Stat(g.path(seq))
	if err != nil {
		return nil, err
	}
	s := &segment{Seq: seq}
	if b, err := os.ReadFile(g.indexPath(seq)); err == nil && json.Unmarshal(b, s) == nil && s.Size == info.Size() && !slices.Contains(s.Streams, nil) {
		s.sealed = true
		return s, nil
	}
	s = &segment{Seq: seq}
	rr, f, err := openRecords(g.path(seq), 0, info.Size())
	if err != nil {
		return nil, g.removeFiles(seq)
	}
	defer f.Close()
	var r record
	for {
		_, err := rr.next(&r)
		if err == nil {
			err = s.note(&r)
		}
		if err == io.EOF || err == errTorn || err == errBad {
			break
		}
		if err != nil {
			return nil, err
		}
		s.Size = rr.at
	}
	if s.Size == 0 {
		return nil, g.removeFiles(seq)
	}
	if s.Size < info.Size() {
		if err := os.Truncate(g.path(seq), s.Size); err != nil {
			return nil, err
		}
	}
	return s, g.seal(s)
}

// removeFiles deletes the files of a segment.
func (g *group) removeFiles(seq uint64) error {
	return errors.Join(ignoreMissing(os.Remove(g.indexPath(seq))), os.Remove(g.path(seq)))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
