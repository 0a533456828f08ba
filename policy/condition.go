package policy

import (
	"bytes"
	"encoding/base64"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// operator is a condition operator taken apart.
type operator struct {
	set      string // "", "ForAnyValue" or "ForAllValues"
	ifExists bool
	comparison
}

// comparison is what an operator does with one value of the request and one of
// the policy.
type comparison struct {
	negated bool
	// fits compares. request is as the request has it, want as the policy has
	// it, with its variables filled in.
	fits func(request string, want pattern) bool
	// valid tells whether a policy may have the value; nil is any.
	valid func(value string) bool
}

// null is the operator that asks whether a key is there, which is not a
// comparison.
const null = "Null"

var comparisons = map[string]comparison{
	"StringEquals":              {false, equals, nil},
	"StringNotEquals":           {true, equals, nil},
	"StringEqualsIgnoreCase":    {false, equalsFold, nil},
	"StringNotEqualsIgnoreCase": {true, equalsFold, nil},
	"StringLike":                {false, like, nil},
	"StringNotLike":             {true, like, nil},
	"ArnEquals":                 {false, arnLike, nil},
	"ArnLike":                   {false, arnLike, nil},
	"ArnNotEquals":              {true, arnLike, nil},
	"ArnNotLike":                {true, arnLike, nil},
	"NumericEquals":             {false, numeric(func(c int) bool { return c == 0 }), isNumber},
	"NumericNotEquals":          {true, numeric(func(c int) bool { return c == 0 }), isNumber},
	"NumericLessThan":           {false, numeric(func(c int) bool { return c < 0 }), isNumber},
	"NumericLessThanEquals":     {false, numeric(func(c int) bool { return c <= 0 }), isNumber},
	"NumericGreaterThan":        {false, numeric(func(c int) bool { return c > 0 }), isNumber},
	"NumericGreaterThanEquals":  {false, numeric(func(c int) bool { return c >= 0 }), isNumber},
	"DateEquals":                {false, date(func(c int) bool { return c == 0 }), isDate},
	"DateNotEquals":             {true, date(func(c int) bool { return c == 0 }), isDate},
	"DateLessThan":              {false, date(func(c int) bool { return c < 0 }), isDate},
	"DateLessThanEquals":        {false, date(func(c int) bool { return c <= 0 }), isDate},
	"DateGreaterThan":           {false, date(func(c int) bool { return c > 0 }), isDate},
	"DateGreaterThanEquals":     {false, date(func(c int) bool { return c >= 0 }), isDate},
	"Bool":                      {false, equalsFold, isBool},
	"BinaryEquals":              {false, binaryEquals, isBinary},
	"IpAddress":                 {false, inNetwork, isNetwork},
	"NotIpAddress":              {true, inNetwork, isNetwork},
	null:                        {false, equalsFold, isBool},
}

// operatorOf takes an operator's name apart. It reports false for none.
func operatorOf(name string) (op operator, ok bool) {
	if set, rest, found := strings.Cut(name, ":"); found {
		if set != "ForAnyValue" && set != "ForAllValues" {
			return op, false
		}
		op.set, name = set, rest
	}
	name, op.ifExists = strings.CutSuffix(name, "IfExists")
	op.comparison, ok = comparisons[name]
	if name == null && (op.set != "" || op.ifExists) {
		return op, false
	}
	return op, ok
}

// check tells whether the condition is in order.
func (c Condition) check() error {
	op, ok := operatorOf(c.Operator)
	switch {
	case !ok:
		return syntax("There is no condition operator %s.", c.Operator)
	case c.Key == "":
		return syntax("The condition %s names no key.", c.Operator)
	case len(c.Values) == 0:
		return syntax("The condition %s has no value for %s.", c.Operator, c.Key)
	}
	for _, v := range c.Values {
		if op.valid != nil && !op.valid(v) && !strings.Contains(v, "${") {
			return syntax("%q is no value for the condition %s.", v, c.Operator)
		}
	}
	return nil
}

// holds tells whether the condition is true of the request.
func (c Condition) holds(r *Request, withVariables bool) bool {
	op, ok := operatorOf(c.Operator)
	if !ok {
		return false
	}
	values, there := r.Context[strings.ToLower(c.Key)]
	there = there && len(values) > 0
	if c.Operator == null {
		for _, v := range c.Values {
			if strings.EqualFold(v, "true") != there {
				return true
			}
		}
		return false
	}
	if !there {
		switch {
		case op.set == "ForAnyValue":
			return op.ifExists
		case op.set == "ForAllValues":
			return true
		}
		return op.ifExists || op.negated
	}
	var wants []pattern
	for _, v := range c.Values {
		if p, ok := compile(v, r.Context, withVariables); ok {
			wants = append(wants, p)
		}
	}
	fitsOne := func(value string) bool {
		for _, want := range wants {
			if op.fits(value, want) {
				return true
			}
		}
		return false
	}
	fitting := 0
	for _, v := range values {
		if fitsOne(v) {
			fitting++
		}
	}
	switch {
	case op.set == "ForAnyValue" && op.negated:
		return fitting < len(values)
	case op.set == "ForAllValues" && !op.negated:
		return fitting == len(values)
	case op.negated:
		return fitting == 0
	}
	return fitting > 0
}

func equals(request string, want pattern) bool { return request == want.literal() }

func equalsFold(request string, want pattern) bool { return strings.EqualFold(request, want.literal()) }

func like(request string, want pattern) bool { return want.match(request, false) }

// arnLike compares the six parts of ARNs each by itself, so that a wildcard
// does not reach over a colon, except in the last part. A lone * is any ARN.
func arnLike(request string, want pattern) bool {
	if len(want) == 1 && want[0] == anyRunes {
		return true
	}
	got := strings.SplitN(request, ":", 6)
	parts := want.split(':', 6)
	if len(got) != len(parts) {
		return false
	}
	for i := range parts {
		if !parts[i].match(got[i], false) {
			return false
		}
	}
	return true
}

func numeric(holds func(int) bool) func(string, pattern) bool {
	return func(request string, want pattern) bool {
		a, errA := strconv.ParseFloat(request, 64)
		b, errB := strconv.ParseFloat(want.literal(), 64)
		switch {
		case errA != nil || errB != nil || a != a || b != b:
			return false
		case a < b:
			return holds(-1)
		case a > b:
			return holds(1)
		}
		return holds(0)
	}
}

func isNumber(s string) bool {
	f, err := strconv.ParseFloat(s, 64)
	return err == nil && f == f
}

func date(holds func(int) bool) func(string, pattern) bool {
	return func(request string, want pattern) bool {
		a, okA := parseDate(request)
		b, okB := parseDate(want.literal())
		return okA && okB && holds(a.Compare(b))
	}
}

// parseDate reads the W3C's profile of ISO 8601, or seconds since 1970.
func parseDate(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", time.DateOnly, "2006-01", "2006"} {
		if layout == "2006" && len(s) != 4 {
			break
		}
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	seconds, err := strconv.ParseInt(s, 10, 64)
	return time.Unix(seconds, 0), err == nil
}

func isDate(s string) bool { _, ok := parseDate(s); return ok }

func isBool(s string) bool { return strings.EqualFold(s, "true") || strings.EqualFold(s, "false") }

func binaryEquals(request string, want pattern) bool {
	a, errA := base64.StdEncoding.DecodeString(request)
	b, errB := base64.StdEncoding.DecodeString(want.literal())
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

func isBinary(s string) bool { _, err := base64.StdEncoding.DecodeString(s); return err == nil }

func inNetwork(request string, want pattern) bool {
	a, err := netip.ParseAddr(request)
	n, ok := parseNetwork(want.literal())
	return err == nil && ok && n.Contains(a.Unmap().WithZone(""))
}

// parseNetwork reads a network, or an address that is one of its own.
func parseNetwork(s string) (netip.Prefix, bool) {
	if n, err := netip.ParsePrefix(s); err == nil {
		return n, true
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

func isNetwork(s string) bool { _, ok := parseNetwork(s); return ok }
