package prediction

import (
	"strconv"
	"strings"
)

// tag names the runs of one function within one trace.
type tag struct {
	root     string
	function uint32
}

// tagsOf reads a trace header that the function itself has lengthened: its own
// entry is the last of the lineage, and that of its caller the one before. ok
// is false if the header has no such thing. caller is zero if nobody called, or
// the function was in the chain before: who called it then can't be told.
func tagsOf(header string) (self, caller tag, ok bool) {
	var root, lineage string
	for part := range strings.SplitSeq(header, ";") {
		part = strings.TrimSpace(part)
		if v, is := strings.CutPrefix(part, "Root="); is {
			root = v
		} else if v, is := strings.CutPrefix(part, "Lineage="); is {
			lineage = v
		}
	}
	if root == "" || lineage == "" {
		return self, caller, false
	}
	rest, last := "", lineage
	if i := strings.LastIndexByte(lineage, '|'); i >= 0 {
		rest, last = lineage[:i], lineage[i+1:]
	}
	id, again, valid := entry(last)
	if !valid {
		return self, caller, false
	}
	self = tag{root, id}
	if again || rest == "" {
		return self, caller, true
	}
	if id, _, valid := entry(rest[strings.LastIndexByte(rest, '|')+1:]); valid {
		caller = tag{root, id}
	}
	return self, caller, true
}

// entry reads one entry of a lineage; again says that its function was invoked
// before in the chain.
func entry(s string) (id uint32, again, ok bool) {
	name, count, found := strings.Cut(s, ":")
	n, err := strconv.ParseUint(name, 16, 32)
	return uint32(n), count != "0", found && err == nil
}
