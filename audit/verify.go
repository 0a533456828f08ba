package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hearth-faas/hearth/internal/segment"
)

// Verdict is what Verify found.
type Verdict struct {
	Records uint64 `json:"records"`
	First   uint64 `json:"first,omitempty"`
	Last    uint64 `json:"last,omitempty"`
	// Mark stands for all of the log up to now. Kept elsewhere, it lets a
	// later Verify find that the whole folder was put back to what it was.
	Mark string `json:"mark,omitempty"`
	// Wrong is what was tampered with, or lost: at most 100 findings.
	Wrong []string `json:"wrong"`
}

const maxWrong = 100

// CheckMark tells whether a text is a Mark; "" is none, and in order.
func CheckMark(text string) error {
	if text == "" {
		return nil
	}
	_, err := parseMark(text)
	return err
}

// Verify reads the whole log and checks its chain, beside a server that may be
// writing it. since is a Mark of an earlier Verdict that must still be in the
// log, unless retention has removed it; "" is none. An error is that it could
// not be read; what was tampered with is in the Verdict.
func Verify(dir string, sealer Sealer, since string) (v Verdict, err error) {
	v.Wrong = []string{}
	var earlier mark
	if since != "" {
		if earlier, err = parseMark(since); err != nil {
			return v, err
		}
	}
	files, err := segment.Look(dir, prefix, suffix)
	if err != nil {
		return v, err
	}
	key, err := loadKey(dir, sealer, false)
	if errors.Is(err, fs.ErrNotExist) {
		return v, fmt.Errorf("%s: there is no audit log in it", dir)
	}
	if err != nil {
		return v, err
	}
	c := chain{key}
	wrong := func(format string, args ...any) {
		if len(v.Wrong) < maxWrong {
			v.Wrong = append(v.Wrong, fmt.Sprintf(format, args...))
		}
	}
	// The head first: what is written meanwhile only comes behind it.
	head, _, err := c.readHead(dir)
	if err != nil {
		wrong("%v", err)
	}
	anchor, err := c.readAnchor(dir)
	if err != nil {
		wrong("%v", err)
	}
	at, list, seen := anchor, files.List(), earlier == mark{} || earlier.Seq <= anchor.Seq
	for i, s := range list {
		path := files.Path(s.First)
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			// Retention was quicker: the chain begins behind it now.
			if moved, err := c.readAnchor(dir); err == nil && moved.Seq >= s.First {
				at, seen = moved, seen || earlier.Seq <= moved.Seq
				continue
			}
		}
		if err != nil {
			return v, err
		}
		newest := i == len(list)-1
		at, _, err = c.walk(f, at, func(m mark, text []byte) {
			seen = seen || m == earlier
			if text == nil {
				return
			}
			v.Records++
			if v.First == 0 {
				v.First = m.Seq
			}
		}, func(w finding) bool {
			if w.last && newest && errors.Is(w.err, errTorn) {
				return true // being written now, or left by a crash
			}
			wrong("%s, line %d: %v", filepath.Base(path), w.line, w.err)
			return true
		})
		err = errors.Join(err, f.Close())
		if err != nil {
			wrong("%s: %v", filepath.Base(path), err)
		}
	}
	if !seen {
		wrong("record %d is not the one that the mark is of, or is gone: the log was replaced", earlier.Seq)
	}
	v.Last = at.Seq
	if at.Seq > 0 {
		v.Mark = at.String()
	}
	if at.Seq < head.Seq {
		wrong("the log ends with record %d, and there were %d: its end was cut off", at.Seq, head.Seq)
	}
	return v, nil
}
