package decision

import (
	"fmt"
	"iter"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/internal/segment"
)

// Read yields the decisions in the log in dir, oldest first. It only reads, so
// that a server may be writing that log; a segment that the server removes
// meanwhile is left out, and damage ends a segment as it does for the server.
// It yields at most one error, as the last thing.
func Read(dir string) iter.Seq2[hearth.Decision, error] {
	return func(yield func(hearth.Decision, error) bool) {
		files, err := segment.Look(dir, prefix, suffix)
		var list []segment.Segment
		if err == nil {
			if list = files.List(); len(list) == 0 {
				err = fmt.Errorf("%s: there is no log of decisions in it", dir)
			}
		}
		s := &segments{Files: files}
		for _, f := range list {
			var ds []hearth.Decision
			if ds, err = s.read(f.First, func(*hearth.Decision) bool { return true }, nil); err != nil {
				break
			}
			for _, d := range ds {
				if !yield(d, nil) {
					return
				}
			}
		}
		if err != nil {
			yield(hearth.Decision{}, err)
		}
	}
}
