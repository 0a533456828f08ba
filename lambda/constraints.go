package lambda

import (
	_ "embed"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed constraints.tsv
var constraintsTSV string

//go:embed required.tsv
var requiredTSV string

// constraint is what the model asks of a shape's values. Zero is no constraint
// of that sort.
type constraint struct {
	numeric  bool
	min, max *float64
	minText  string // as the model writes it, such as 0.0
	maxText  string
	regex    string
	match    func() *pattern
	enum     []string // in the order in which the service tells them
}

// constraints are the constrained shapes by name.
var constraints = sync.OnceValue(func() map[string]*constraint {
	m := map[string]*constraint{}
	for fields := range rows(constraintsTSV) {
		c := &constraint{numeric: fields[1] == "integer" || fields[1] == "double" || fields[1] == "long"}
		c.min, c.minText = bound(fields[2])
		c.max, c.maxText = bound(fields[3])
		if fields[4] != "" {
			c.regex = nowadays(fields[4])
			c.match = sync.OnceValue(func() *pattern {
				p, err := compilePattern(c.regex)
				if err != nil {
					panic("lambda: pattern of " + fields[0] + ": " + err.Error())
				}
				return p
			})
		}
		if fields[5] != "" {
			c.enum = hashSetOrder(strings.Split(fields[5], ","))
		}
		m[fields[0]] = c
	}
	// The runtime is not checked with the other constraints: the service
	// answers an unknown one with another exception, which is the registry's.
	// The model leaves a timeout's maximum to the service.
	m["Runtime"].enum = nil
	m["Timeout"].max, m["Timeout"].maxText = bound("900")
	return m
})

// required are the members that must not be null, by Go type.
var required = sync.OnceValue(func() map[string][]string {
	m := map[string][]string{}
	for fields := range rows(requiredTSV) {
		m[fields[0]] = strings.Split(fields[1], ",")
	}
	return m
})

// rows yields the tab-separated rows of an embedded table, without its
// comments and its heading.
func rows(table string) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		heading := true
		for line := range strings.Lines(table) {
			line = strings.TrimRight(line, "\n")
			if line == "" || line[0] == '#' {
				continue
			}
			if heading {
				heading = false
				continue
			}
			if !yield(strings.Split(line, "\t")) {
				return
			}
		}
	}
}

func bound(text string) (*float64, string) {
	if text == "" {
		return nil, ""
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic("lambda: bound in the table of constraints: " + err.Error())
	}
	return &f, text
}

// nowadays brings a pattern of the table to what the service has been recorded
// to answer: its regions may begin with eusc-, which the published model does
// not know yet.
func nowadays(regex string) string {
	const region = `[a-z]{2}((-gov)|(-iso([a-z]?)))?`
	return strings.ReplaceAll(regex, region, `(eusc-)?`+region)
}

// hashSetOrder orders the values of an enumeration as the service's messages
// list them, which is the iteration order of a Java HashSet of strings.
func hashSetOrder(values []string) []string {
	size := 16
	for len(values)*4 > size*3 {
		size *= 2
	}
	bucket := func(s string) int {
		var h uint32
		for i := range len(s) {
			h = h*31 + uint32(s[i])
		}
		return int(h^h>>16) & (size - 1)
	}
	values = slices.Clone(values)
	slices.SortStableFunc(values, func(a, b string) int { return bucket(a) - bucket(b) })
	return values
}
