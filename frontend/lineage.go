package frontend

import (
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth"
)

// A chain of invocations that caused one another is known by the Lineage in
// its trace header, as the service has it:
//
//	Root=…;Parent=…;Sampled=0;Lineage=a87bd80c:1|68fd508a:5
//
// Each function of the chain has an entry: a hash of its ARN, and how often it
// was invoked before in the chain. Code that calls out with one of the SDKs
// hands the header on by itself.

// maxLoops is how often a function is invoked in one chain before a further
// time is refused, as with the service.
const maxLoops = 16

// maxLineage bounds the entries that a header is given; the oldest gives way.
const maxLineage = 32

const lineagePrefix = "Lineage="

// lineageID is FNV-1a of what names the function: it must be the same on
// every node and after a restart, and need not be secret.
func lineageID(fn *hearth.Function) uint32 {
	id := uint32(2166136261)
	for _, s := range [...]string{string(fn.Account), "/", fn.Name} {
		for i := range len(s) {
			id = (id ^ uint32(s[i])) * 16777619
		}
	}
	return id
}

func appendEntry(b []byte, id uint32, loops int) []byte {
	const digits = "0123456789abcdef"
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, digits[id>>shift&15])
	}
	return strconv.AppendInt(append(b, ':'), int64(loops), 10)
}

// lengthen adds an invocation of fn to the chain of a trace header that came
// with it, and tells how often fn was in the chain before. What in the header
// is not understood stays as it is.
func lengthen(header string, fn *hearth.Function) (longer string, loops int) {
	id := lineageID(fn)
	b := make([]byte, 0, len(header)+len(";Lineage=12345678:16"))
	var entries string
	for part := range strings.SplitSeq(header, ";") {
		if lineage, ok := strings.CutPrefix(strings.TrimSpace(part), lineagePrefix); ok && entries == "" {
			entries = lineage
			continue
		}
		if part != "" {
			b = append(append(b, part...), ';')
		}
	}
	b = append(b, lineagePrefix...)
	drop := strings.Count(entries, "|") + 2 - maxLineage
	for entry := range strings.SplitSeq(entries, "|") {
		if n, mine := countOf(entry, id); mine {
			loops = max(loops, n+1)
			continue
		}
		if drop--; entry == "" || drop >= 0 {
			continue
		}
		b = append(append(b, entry...), '|')
	}
	return string(appendEntry(b, id, loops)), loops
}

// countOf reads an entry, if it is id's.
func countOf(entry string, id uint32) (n int, mine bool) {
	name, count, ok := strings.Cut(entry, ":")
	if !ok {
		return 0, false
	}
	got, err := strconv.ParseUint(name, 16, 32)
	if err != nil || uint32(got) != id {
		return 0, false
	}
	n, err = strconv.Atoi(count)
	if err != nil || n < 0 {
		return 0, false
	}
	return min(n, maxLoops), true // more are not counted
}

func recursive(inv *hearth.Invocation) error {
	return refusal(inv, hearth.Recursive, "Lambda has detected your function being invoked in a recursive loop with other AWS resources and stopped your function's invocation.")
}
