package backfill

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth"
)

// content is bytes that are cut into items: a file's or an object's.
type content interface {
	// open reads from a byte on: what tag named, or any if it is "". It tells the
	// tag of what is read, "" if there is none.
	open(ctx context.Context, tag string, from int64) (r io.ReadCloser, got string, err error)
	// size is in bytes.
	size(ctx context.Context) (int64, error)
	// name says in a chunk's value what it is of.
	name() map[string]any
	String() string
}

// file is a file's content, by its path.
type file string

func (f file) String() string       { return string(f) }
func (f file) name() map[string]any { return map[string]any{"path": string(f)} }

func (f file) open(_ context.Context, _ string, from int64) (io.ReadCloser, string, error) {
	r, err := os.Open(string(f))
	if err != nil {
		return nil, "", err
	}
	if _, err := r.Seek(from, io.SeekStart); err != nil {
		return nil, "", errors.Join(err, r.Close())
	}
	return r, "", nil
}

func (f file) size(context.Context) (int64, error) {
	info, err := os.Stat(string(f))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// object is an object's content.
type object struct {
	objects     Objects
	bucket, key string
}

func (o *object) String() string       { return o.bucket + "/" + o.key }
func (o *object) name() map[string]any { return map[string]any{"bucket": o.bucket, "key": o.key} }

func (o *object) open(ctx context.Context, tag string, from int64) (io.ReadCloser, string, error) {
	return o.objects.Open(ctx, o.bucket, o.key, tag, from)
}

func (o *object) size(ctx context.Context) (int64, error) {
	s, err := o.objects.Stat(ctx, o.bucket, o.key)
	if err == nil && !s.Exists {
		err = hearth.Errorf(hearth.InvalidParameter, "There is no object %s.", o)
	}
	return s.Size, err
}

// maxLine bounds a line or a record, in bytes: what one call can carry.
const maxLine = 5 << 20

// text is content cut into items, which are known by the byte where they begin:
// those that are equal are two. With a key they are objects, and known by its
// value. A position is a byte's, with the tag of what is
// read after a space, so that no item is of one content and the next of another.
type text struct {
	content content
	form    string
	key     string

	at     int64 // where live stands
	tag    string
	live   cutter // nil until something is read, and at the end
	close  func() error
	header []string // of csv
}

// cutter cuts what is read into records.
type cutter interface {
	// next is the next record, where it begins, and where what follows begins.
	// io.EOF is the end.
	next() (value json.RawMessage, from, to int64, err error)
}

func newText(form string, c content, chunk int64, key string) Source {
	if form == "chunks" {
		return &chunks{c, chunk}
	}
	return &text{content: c, form: form, key: key}
}

func (t *text) Steady() bool { return true }

func (t *text) Close() error {
	if t.close == nil {
		return nil
	}
	close := t.close
	t.live, t.close = nil, nil
	return close()
}

func (t *text) Page(ctx context.Context, position string, most int) (items []Item, next string, err error) {
	begin, tag, _ := strings.Cut(position, " ")
	at, err := offset(begin)
	if err != nil {
		return nil, "", err
	}
	fresh := t.live == nil || at != t.at || tag != t.tag
	if fresh {
		if err := t.start(ctx, tag, at); err != nil {
			return nil, "", t.of(err, at)
		}
	}
	for len(items) < most {
		value, from, to, err := t.live.next()
		if errors.Is(err, io.EOF) {
			return items, "", t.Close()
		}
		if err != nil {
			failed := t.of(err, t.at)
			if cerr := t.Close(); fresh || cerr != nil {
				return nil, "", failed
			}
			// A connection that was left alone for long is closed by its server.
			return t.Page(ctx, position, most)
		}
		t.at = to
		if value == nil {
			continue
		}
		id, err := t.id(value, from)
		if err != nil {
			return nil, "", err
		}
		items = append(items, Item{ID: id, Value: value})
	}
	return items, strings.TrimSuffix(strconv.FormatInt(t.at, 10)+" "+t.tag, " "), nil
}

// id is what the record that begins at a byte is known by.
func (t *text) id(value json.RawMessage, from int64) (string, error) {
	if t.key == "" {
		return strconv.FormatInt(from, 10), nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(value, &object); err != nil {
		return "", t.bad(from, "has no %q: it is no object", t.key)
	}
	if ids, err := idsOf(object[t.key]); err == nil && len(ids) == 1 && ids[0] != "" && object[t.key][0] != '[' {
		return ids[0], nil
	}
	return "", t.bad(from, "has no text and no number as its %q", t.key)
}

func isOf[E error](err error) bool { _, ok := errors.AsType[E](err); return ok }

func (t *text) of(err error, at int64) error {
	if isOf[*recordError](err) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("reading %s from byte %d: %w", t.content, at, err)
}

// recordError is of a record that is not what it should be: reading it again
// gives the same.
type recordError struct{ message string }

func (e *recordError) Error() string { return e.message }

func (t *text) bad(at int64, format string, args ...any) error {
	return &recordError{fmt.Sprintf("the record at byte %d of %s ", at, t.content) + fmt.Sprintf(format, args...)}
}

// start has the text read from a byte on.
func (t *text) start(ctx context.Context, tag string, at int64) error {
	if err := t.Close(); err != nil {
		return err
	}
	if t.form == "csv" && at > 0 && (t.header == nil || tag != t.tag) {
		// The names of the columns are at the beginning.
		r, _, err := t.content.open(ctx, tag, 0)
		if err != nil {
			return err
		}
		c := &csvCutter{text: t}
		err = c.begin(t.bounded(r), 0)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	// Reading goes on from page to page, and ends with Close.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r, got, err := t.content.open(ctx, tag, at)
	if err != nil {
		cancel()
		return err
	}
	t.at, t.tag = at, got
	t.close = func() error { cancel(); return r.Close() }
	in := t.bounded(r)
	switch t.form {
	case "csv":
		c := &csvCutter{text: t}
		t.live, err = c, c.begin(in, at)
	case "json":
		c := &jsonCutter{text: t}
		t.live, err = c, c.begin(in, at)
	default:
		t.live = &lineCutter{text: t, in: in, r: bufio.NewReaderSize(in, buffer), at: at}
	}
	if err != nil {
		return errors.Join(err, t.Close())
	}
	return nil
}

// buffer is how much is read at a time, in bytes.
const buffer = 64 << 10

// bounded reads no more for one record than it may have.
type bounded struct {
	r    io.Reader
	left int
}

func (t *text) bounded(r io.Reader) *bounded { return &bounded{r, maxLine + buffer} }

var errLong = &recordError{fmt.Sprintf("a record has more than %d bytes: is a quote or a bracket missing?", maxLine)}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLong
	}
	n, err := b.r.Read(p)
	b.left -= n
	return n, err
}

func (b *bounded) renew() { b.left = maxLine + buffer }

// lineCutter cuts at the ends of lines; empty lines are none.
type lineCutter struct {
	text *text
	in   *bounded
	r    *bufio.Reader
	at   int64
}

func (c *lineCutter) next() (value json.RawMessage, from, to int64, err error) {
	c.in.renew()
	var line []byte
	for {
		part, err := c.r.ReadSlice('\n')
		if line = append(line, part...); len(line) > maxLine {
			return nil, 0, 0, c.text.bad(c.at, "has more than %d bytes", maxLine)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
			return nil, 0, 0, err
		}
		break
	}
	from = c.at
	c.at += int64(len(line))
	if s := strings.TrimRight(string(line), "\r\n"); s != "" {
		value = jsonOf(s)
	}
	return value, from, c.at, nil
}

// csvCutter makes an object of a record: the first names its members.
type csvCutter struct {
	text *text
	in   *bounded
	csv  *csv.Reader
	base int64
}

// begin reads the header, if it is there.
func (c *csvCutter) begin(in *bounded, at int64) error {
	r := bufio.NewReaderSize(in, buffer)
	first := at == 0
	if first {
		if bom, err := r.Peek(3); err == nil && string(bom) == "\xef\xbb\xbf" {
			if _, err := r.Discard(3); err != nil {
				return err
			}
			at = 3
		}
	}
	c.in, c.base, c.csv = in, at, csv.NewReader(r)
	c.csv.FieldsPerRecord = -1
	if !first {
		return nil
	}
	header, err := c.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil // it has no records either
	}
	if err != nil {
		return c.fault(err)
	}
	seen := map[string]bool{}
	for _, name := range header {
		if seen[name] {
			return c.text.bad(0, "names the column %q twice", name)
		}
		seen[name] = true
	}
	c.text.header = header
	return nil
}

func (c *csvCutter) fault(err error) error {
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		return c.text.bad(c.base+c.csv.InputOffset(), "is no CSV: %v", e.Err)
	}
	return err
}

func (c *csvCutter) next() (value json.RawMessage, from, to int64, err error) {
	c.in.renew()
	from = c.base + c.csv.InputOffset()
	record, err := c.csv.Read()
	if err != nil {
		if !errors.Is(err, io.EOF) {
			err = c.fault(err)
		}
		return nil, 0, 0, err
	}
	if len(record) != len(c.text.header) {
		return nil, 0, 0, c.text.bad(from, "has %d fields, and the header %d", len(record), len(c.text.header))
	}
	object := make(map[string]string, len(record))
	for i, name := range c.text.header {
		object[name] = record[i]
	}
	value, err = json.Marshal(object)
	return value, from, c.base + c.csv.InputOffset(), err
}

// jsonCutter takes the elements of an array.
type jsonCutter struct {
	text *text
	in   *bounded
	dec  *json.Decoder
	base int64
}

func (c *jsonCutter) begin(in *bounded, at int64) error {
	c.in, c.base = in, at
	r := bufio.NewReaderSize(in, buffer)
	if at > 0 { // after an element: a comma, which is taken for the beginning
		for {
			b, err := r.ReadByte()
			if err != nil {
				return c.end(err)
			}
			if strings.IndexByte(" \t\r\n", b) >= 0 {
				c.base++
				continue
			}
			switch b {
			case ',':
				c.dec = json.NewDecoder(io.MultiReader(strings.NewReader("["), r))
			case ']':
				c.dec = json.NewDecoder(strings.NewReader("[]"))
			default:
				return c.text.bad(c.base, "is followed by %q, not by a comma or the array's end", b)
			}
			break
		}
	} else {
		c.dec = json.NewDecoder(r)
	}
	t, err := c.dec.Token()
	if err != nil {
		return c.end(err)
	}
	if t != json.Delim('[') {
		return c.text.bad(0, "is not in an array: the text must be [ELEMENT, …]")
	}
	return nil
}

// end is the error of a text that ends, or is broken.
func (c *jsonCutter) end(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return c.text.bad(c.offset(), "is missing: the text ends within the array")
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return c.text.bad(c.offset(), "is no JSON: %v", e)
	}
	return err
}

func (c *jsonCutter) offset() int64 {
	if c.dec == nil {
		return c.base
	}
	return c.base + c.dec.InputOffset()
}

func (c *jsonCutter) next() (value json.RawMessage, from, to int64, err error) {
	c.in.renew()
	if !c.dec.More() {
		if _, err := c.dec.Token(); err != nil {
			return nil, 0, 0, c.end(err)
		}
		return nil, 0, 0, io.EOF
	}
	if err := c.dec.Decode(&value); err != nil {
		return nil, 0, 0, c.end(err)
	}
	if len(value) > maxLine {
		return nil, 0, 0, c.text.bad(c.offset(), "has more than %d bytes", maxLine)
	}
	to = c.offset()
	return value, to - int64(len(value)), to, nil
}

// chunks are pieces of one size, which the function reads by itself.
type chunks struct {
	content content
	bytes   int64
}

func (c *chunks) Steady() bool { return true }
func (c *chunks) Close() error { return nil }

func (c *chunks) Page(ctx context.Context, position string, most int) (items []Item, next string, err error) {
	at, err := offset(position)
	if err != nil {
		return nil, "", err
	}
	size, err := c.content.size(ctx)
	if err != nil {
		return nil, "", err
	}
	for ; at < size && len(items) < most; at += c.bytes {
		value := c.content.name()
		value["offset"], value["length"] = at, min(c.bytes, size-at)
		b, err := json.Marshal(value)
		if err != nil {
			return nil, "", err
		}
		items = append(items, Item{ID: strconv.FormatInt(at, 10), Value: b})
	}
	if at >= size {
		return items, "", nil
	}
	return items, strconv.FormatInt(at, 10), nil
}
