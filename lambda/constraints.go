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
			c.match = sync.OnceValue(func() *pattern { return mustPattern(fields[0], c.regex) })
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
	// The service's own layers have ARNs without region and account, which
	// the published model does not know.
	arn := m["LayerVersionArn"]
	arn.max, arn.maxText = bound("2048")
	arn.regex = `(arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+)|(arn:[a-zA-Z0-9-]+:lambda:::awslayer:[a-zA-Z0-9-_]+)`
	// This one was recorded in an order of its own.
	m["EventSourcePosition"].enum = []string{"LATEST", "AT_TIMESTAMP", "TRIM_HORIZON"}
	// The model does not know what the service has been recorded to ask of
	// these.
	for name, regex := range map[string]string{"SubnetId": "subnet-[0-9a-z]*", "SecurityGroupId": "sg-[0-9a-zA-Z]*"} {
		c := &constraint{regex: regex, match: sync.OnceValue(func() *pattern { return mustPattern(name, regex) })}
		c.min, c.minText = bound("0")
		c.max, c.maxText = bound("1024")
		m[name] = c
	}
	return m
})

func mustPattern(shape, regex string) *pattern {
	p, err := compilePattern(regex)
	if err != nil {
		panic("lambda: pattern of " + shape + ": " + err.Error())
	}
	return p
}

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
// to answer: its regions may begin with eusc-, and layers are among what can
// have tags, which the published model does not know.
func nowadays(regex string) string {
	const region = `[a-z]{2}((-gov)|(-iso([a-z]?)))?`
	regex = strings.ReplaceAll(regex, region, `(eusc-)?`+region)
	const function, signing = `(:(\$LATEST|[a-zA-Z0-9-_]+))?|`, `code-signing-config:`
	return strings.ReplaceAll(regex, function+signing, function+`layer:([a-zA-Z0-9-_]+)|`+signing)
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
