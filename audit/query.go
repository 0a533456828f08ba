package audit

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// Filter says which records are wanted. Zero fields let everything pass.
type Filter struct {
	// Sees is whose records may be shown: those of the account's principals,
	// and those about its resources. "" is everything, for the operator.
	Sees         hearth.Account
	Account      hearth.Account
	Who          string // a part of the principal's ARN or of the access key's id
	Action       string // with * for any text, as in lambda:Delete*
	Resource     string // a part of it
	Since, Until time.Time
	Errors       bool // only those with an error
	Before       uint64
	Limit        int // 0 is 100
}

// MaxLimit bounds a Filter's Limit.
const MaxLimit = 1000

func (f *Filter) fits(e *Event) bool {
	switch {
	case f.Sees != "" && e.Account != f.Sees && e.Owner != f.Sees,
		f.Account != "" && e.Account != f.Account && e.Owner != f.Account,
		f.Who != "" && !strings.Contains(e.Principal, f.Who) && !strings.Contains(e.AccessKeyID, f.Who),
		f.Action != "" && !match(strings.ToLower(f.Action), strings.ToLower(e.Action)),
		f.Resource != "" && !strings.Contains(e.Resource, f.Resource),
		!f.Since.IsZero() && e.Time.Before(f.Since),
		!f.Until.IsZero() && e.Time.After(f.Until),
		f.Errors && e.ErrorCode == "",
		f.Before != 0 && e.Seq >= f.Before:
		return false
	}
	return true
}

// match tells whether text is as the pattern says, in which * is any text.
func match(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	rest, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return len(rest) >= len(last) && strings.HasSuffix(rest, last)
}

// Find returns the newest records that fit, newest first. A change that was
// recorded before it was called is found; reads and refusals once they are
// written, a moment later, though they may not be synced yet. Lines that are
// damaged are left out, which Verify tells of.
func (l *Log) Find(f Filter) ([]Event, error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	f.Limit = min(f.Limit, MaxLimit)
	var found []Event
	for _, s := range slices.Backward(l.files.List()) {
		if f.Before != 0 && s.First >= f.Before {
			continue
		}
		path := l.files.Path(s.First)
		if !f.Since.IsZero() {
			// Written to last before that: nothing in it, nor before it.
			if info, err := os.Stat(path); err == nil && info.ModTime().Before(f.Since.Add(-time.Minute)) {
				break
			}
		}
		some, err := search(path, &f, f.Limit-len(found))
		if err != nil {
			return nil, err
		}
		for _, e := range slices.Backward(some) {
			found = append(found, e)
		}
		if len(found) >= f.Limit {
			break
		}
	}
	return found, nil
}

// search returns the last n records of a segment that fit, oldest first.
func search(path string, f *Filter, n int) (found []Event, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // retention was quicker
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	in := bufio.NewScanner(file)
	in.Buffer(make([]byte, 64<<10), 4*maxRecord)
	for in.Scan() {
		_, text, err := splitLine(in.Bytes())
		if err != nil {
			continue
		}
		e, err := decodeEvent(text)
		if err != nil || !f.fits(&e) {
			continue
		}
		if len(found) == n {
			copy(found, found[1:])
			found = found[:n-1]
		}
		found = append(found, e)
	}
	if err := in.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
		return nil, err
	}
	return found, nil
}
