package audit

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Beside the segments are two marks:
//
// The head is the newest record that is known to be on disk. It is written
// after the record was synced, so that it is never ahead of the log, whatever
// becomes of the power: a log that ends before its head was cut off. Its file
// has two places, written in turn, so that one is whole at any moment.
//
// The anchor is the last record that retention has removed: the chain begins
// behind it. It is replaced before anything is removed.

const (
	headFile   = "head"
	anchorFile = "anchor"
	keyFile    = "key"
)

// place is a mark on disk: version, Seq, Link, and a keyed hash of them.
const (
	placeSize = 1 + 8 + len(link{}) + len(link{})
	placeAt   = 512 // where the second place is: in a sector of its own
)

func (c chain) encodeMark(what string, m mark) []byte {
	b := append(make([]byte, 0, placeSize), formatVersion)
	b = binary.BigEndian.AppendUint64(b, m.Seq)
	b = append(b, m.Link[:]...)
	sum := c.next(link{}, append([]byte(what+":"), b...))
	return append(b, sum[:]...)
}

var errMark = errors.New("it is damaged")

func (c chain) decodeMark(what string, b []byte) (m mark, err error) {
	if len(b) < placeSize {
		return m, errMark
	}
	b = b[:placeSize]
	switch {
	case b[0] > formatVersion:
		return m, fmt.Errorf("%w (format %d, this program knows %d)", errNewer, b[0], formatVersion)
	case b[0] != formatVersion:
		return m, errMark
	}
	body := b[:placeSize-len(link{})]
	sum := c.next(link{}, append([]byte(what+":"), body...))
	if !hmac.Equal(sum[:], b[len(body):]) {
		return m, errMark
	}
	m.Seq = binary.BigEndian.Uint64(b[1:])
	copy(m.Link[:], b[9:])
	return m, nil
}

// readHead returns the newer of the head's places. A head that was never
// written is the zero mark.
func (c chain) readHead(dir string) (head mark, newer int, err error) {
	b, err := os.ReadFile(filepath.Join(dir, headFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.Trim(b, "\x00")) == 0 {
		return mark{}, 0, nil
	}
	if err != nil {
		return mark{}, 0, err
	}
	var last error
	found := false
	for i := range 2 {
		m, err := c.decodeMark("head", b[min(i*placeAt, len(b)):])
		if err != nil {
			last = err
			continue
		}
		if !found || m.Seq > head.Seq {
			head, newer, found = m, i, true
		}
	}
	if !found {
		return mark{}, 0, fmt.Errorf("%s: %w", filepath.Join(dir, headFile), last)
	}
	return head, newer, nil
}

// writeHead puts the mark into one of the two places.
func (c chain) writeHead(f *os.File, place int, m mark) error {
	_, err := f.WriteAt(c.encodeMark("head", m), int64(place*placeAt))
	return err
}

// readAnchor returns where the chain begins; the zero mark if nothing was ever
// removed.
func (c chain) readAnchor(dir string) (mark, error) {
	b, err := os.ReadFile(filepath.Join(dir, anchorFile))
	if errors.Is(err, fs.ErrNotExist) {
		return mark{}, nil
	}
	if err != nil {
		return mark{}, err
	}
	m, err := c.decodeMark("anchor", b)
	if err != nil {
		return mark{}, fmt.Errorf("%s: %w", filepath.Join(dir, anchorFile), err)
	}
	return m, nil
}

func (c chain) writeAnchor(dir string, m mark) error {
	return replace(filepath.Join(dir, anchorFile), c.encodeMark("anchor", m))
}

// replace writes the file whole or not at all, and durable.
func replace(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
