package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// finding is something in a segment that is not as it was written.
type finding struct {
	line int // from 1
	err  error
	// last tells that nothing follows it.
	last bool
}

var (
	errTorn  = errors.New("the line has no end")
	errNewer = errors.New("it was written by a newer version of Hearth")
	errChain = errors.New("it was changed, or what stood before it was changed or taken out")
)

// walk reads a segment that follows prev, and calls each with the mark of each
// line and the event in it, as text, which the header has none of. What is
// wrong is told to wrong, which says whether to go on;
// then the chain is taken up with the link that the line claims. It returns the
// last good mark, and how many bytes there are up to it.
func (c chain) walk(r io.Reader, prev mark, each func(m mark, text []byte), wrong func(finding) bool) (last mark, size int64, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	last = prev
	at := prev.Link
	clean := true // up to here
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(line) > 0 {
				wrong(finding{n, errTorn, true})
			}
			return last, size, nil
		}
		if err != nil {
			return last, size, err
		}
		_, peekErr := in.Peek(1)
		bad := func(err error) bool { clean = false; return wrong(finding{n, err, peekErr != nil}) }
		l, text, err := splitLine(line[:len(line)-1])
		if err != nil {
			if !bad(err) {
				return last, size, nil
			}
			continue
		}
		if l != c.next(at, text) && !bad(errChain) {
			return last, size, nil
		}
		at = l
		if n == 1 {
			h, err := decodeHeader(text)
			if errors.Is(err, errNewer) {
				return last, size, err
			}
			if err == nil && h.First != last.Seq+1 {
				err = gap(last.Seq, h.First)
			}
			if err != nil && !bad(err) {
				return last, size, nil
			}
			if h.First != 0 {
				last = mark{h.First - 1, l}
			}
			if each != nil {
				each(last, nil)
			}
		} else {
			seq, err := seqOf(text)
			if err == nil && seq != last.Seq+1 {
				err = gap(last.Seq, seq)
			}
			if err != nil && !bad(err) {
				return last, size, nil
			}
			if seq != 0 {
				last = mark{seq, l}
			}
			if each != nil {
				each(last, text)
			}
		}
		if clean {
			size += int64(len(line))
		}
	}
}

func gap(last, next uint64) error {
	if next <= last {
		return fmt.Errorf("record %d follows record %d", next, last)
	}
	if next == last+2 {
		return fmt.Errorf("record %d is missing", last+1)
	}
	return fmt.Errorf("records %d to %d are missing", last+1, next-1)
}

// seqOf reads the number that a record's text begins with.
func seqOf(text []byte) (uint64, error) {
	rest, ok := bytes.CutPrefix(text, []byte(`{"seq":`))
	if !ok {
		return 0, errLine
	}
	var n uint64
	for i, d := range rest {
		if d == ',' && i > 0 && i < 20 {
			return n, nil
		}
		if d < '0' || d > '9' {
			break
		}
		n = n*10 + uint64(d-'0')
	}
	return 0, errLine
}

// endOf is the mark that the next segment follows: what the last whole line of
// a segment says, whether or not it is true.
func endOf(path string) (m mark, err error) {
	f, err := os.Open(path)
	if err != nil {
		return m, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return m, err
	}
	from := max(0, info.Size()-3*maxRecord)
	b := make([]byte, info.Size()-from)
	if _, err := f.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
		return m, err
	}
	for {
		end := bytes.LastIndexByte(b, '\n')
		if end < 0 {
			return m, errLine
		}
		line := b[bytes.LastIndexByte(b[:end], '\n')+1 : end]
		if l, text, err := splitLine(line); err == nil {
			if h, err := decodeHeader(text); err == nil {
				return mark{h.First - 1, l}, nil
			}
			if seq, err := seqOf(text); err == nil {
				return mark{seq, l}, nil
			}
		}
		b = b[:max(0, bytes.LastIndexByte(b[:end], '\n')+1)]
	}
}
