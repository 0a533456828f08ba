package logs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// A segment is an append-only file that holds a part of one group's events:
//
//	8 bytes   segmentMagic
//	records   4 bytes length of the body, 4 bytes CRC-32C of the body (both
//	          little endian), the body
//
// A body is a stream's definition or an event (recordStream, recordEvent), with
// numbers as varints. Streams are numbered from 0 in each segment, in the order
// of their definitions, so that a segment can be read by itself.
const (
	segmentMagic = "HLOG\x00\x00\x00\x01"
	recordHead   = 8
	maxRecord    = maxEvent + 1024

	recordStream = 1 // number, created (ms), name
	recordEvent  = 2 // stream, at (ms), ingested after at (ms), length of request id, request id, message
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errTorn    = errors.New("torn record")
	errBad     = errors.New("damaged record")
)

// record is one decoded record. Its slices are valid until the next one is
// read.
type record struct {
	kind     byte
	stream   uint32
	at       int64 // of an event: its time; of a stream: when it was made; ms
	ingested int64 // ms
	request  []byte
	text     []byte // an event's message, a stream's name
}

// appendStream appends the definition of a stream.
func appendStream(b []byte, number uint32, created int64, name string) []byte {
	start := len(b)
	b = append(b, make([]byte, recordHead)...)
	b = append(b, recordStream)
	b = binary.AppendUvarint(b, uint64(number))
	b = binary.AppendVarint(b, created)
	b = append(b, name...)
	return closeRecord(b, start)
}

// appendEvent appends an event.
func appendEvent(b []byte, stream uint32, at, ingested int64, request string, text []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, recordHead)...)
	b = append(b, recordEvent)
	b = binary.AppendUvarint(b, uint64(stream))
	b = binary.AppendVarint(b, at)
	b = binary.AppendVarint(b, ingested-at)
	b = binary.AppendUvarint(b, uint64(len(request)))
	b = append(b, request...)
	b = append(b, text...)
	return closeRecord(b, start)
}

// closeRecord fills in the head of the record that begins at start.
func closeRecord(b []byte, start int) []byte {
	body := b[start+recordHead:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	return b
}

// decode reads a record's body, whose checksum was right.
func (r *record) decode(b []byte) error {
	if len(b) == 0 {
		return errBad
	}
	*r = record{kind: b[0]}
	b = b[1:]
	stream, n := binary.Uvarint(b)
	if n <= 0 || stream > 1<<31 {
		return errBad
	}
	r.stream, b = uint32(stream), b[n:]
	if r.at, n = binary.Varint(b); n <= 0 {
		return errBad
	}
	b = b[n:]
	switch r.kind {
	case recordStream:
	case recordEvent:
		after, n := binary.Varint(b)
		if n <= 0 {
			return errBad
		}
		r.ingested, b = r.at+after, b[n:]
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return errBad
		}
		b = b[n:]
		r.request, b = b[:size], b[size:]
	default:
		return errBad
	}
	r.text = b
	return nil
}

// recordReader reads a segment's records one after the other.
type recordReader struct {
	in   *bufio.Reader
	at   int64 // where the next record begins
	end  int64 // what was written of the segment
	body []byte
}

// openRecords opens a segment's records from offset on, or from the first one.
func openRecords(path string, offset, end int64) (*recordReader, io.Closer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	var magic [len(segmentMagic)]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil || string(magic[:]) != segmentMagic {
		f.Close()
		return nil, nil, fmt.Errorf("%s is no log segment", path)
	}
	offset = max(offset, int64(len(segmentMagic)))
	return newRecordReader(io.NewSectionReader(f, offset, max(end-offset, 0)), offset, end), f, nil
}

func newRecordReader(r io.Reader, offset, end int64) *recordReader {
	return &recordReader{in: bufio.NewReaderSize(r, 64<<10), at: offset, end: end}
}

// next reads a record into r, and returns where it began: io.EOF at the end,
// errTorn if the last record is not all there, errBad if it is damaged.
func (rr *recordReader) next(r *record) (offset int64, err error) {
	var head [recordHead]byte
	offset = rr.at
	if n, err := io.ReadFull(rr.in, head[:]); err != nil {
		if n == 0 && err == io.EOF {
			return offset, io.EOF
		}
		return offset, tornBy(err)
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > maxRecord {
		return offset, errBad
	}
	if cap(rr.body) < int(size) {
		rr.body = make([]byte, max(int(size), 1024))
	}
	rr.body = rr.body[:size]
	if _, err := io.ReadFull(rr.in, rr.body); err != nil {
		return offset, tornBy(err)
	}
	if crc32.Checksum(rr.body, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return offset, errBad
	}
	if err := r.decode(rr.body); err != nil {
		return offset, err
	}
	rr.at += recordHead + int64(size)
	return offset, nil
}

func tornBy(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errTorn
	}
	return err
}
