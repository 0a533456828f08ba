package pattern

import (
	"encoding/json"
	"strconv"
)

// maxNumber bounds what is compared as numbers.
const maxNumber = 5e9

// comparable returns the integer by which numbers are compared: the service
// cuts them behind the sixth digit after the point. ok is false if f is too
// far out.
func comparable(f float64) (key int64, ok bool) {
	if !(f >= -maxNumber && f <= maxNumber) {
		return 0, false
	}
	return int64(1e6 * (maxNumber + f)), true
}

// numeric takes one comparison, or two that bound a range from below and above.
func numeric(of any, way string) (func(scalar) bool, error) {
	parts, ok := of.([]any)
	if !ok || len(parts) != 2 && len(parts) != 4 {
		return nil, fail(way, `must be a list of a comparison and a number, or two of them, such as [">", 0, "<=", 5]`)
	}
	low, high := int64(0), int64(2*maxNumber*1e6)
	for i := 0; i < len(parts); i += 2 {
		op, _ := parts[i].(string)
		n, ok := parts[i+1].(json.Number)
		if !ok {
			return nil, fail(way, "%s must compare with a number, not %s", show(parts[i]), show(parts[i+1]))
		}
		f, err := strconv.ParseFloat(n.String(), 64)
		key, ok := comparable(f)
		if err != nil || !ok {
			return nil, fail(way, "%s is not between -5e9 and 5e9", n)
		}
		lower := op == ">" || op == ">="
		upper := op == "<" || op == "<="
		switch {
		case i == 2 && !upper, i == 0 && len(parts) == 4 && !lower:
			return nil, fail(way, "a range is > or >=, a number, < or <=, a number")
		case op == ">":
			low = key + 1
		case op == ">=":
			low = key
		case op == "<":
			high = key - 1
		case op == "<=":
			high = key
		case op == "=":
			low, high = key, key
		default:
			return nil, fail(way, "%s is none of <, <=, =, > and >=", show(parts[i]))
		}
	}
	if len(parts) == 4 && low > high {
		return nil, fail(way, "nothing lies in this range")
	}
	return func(v scalar) bool { return v.comparable && low <= v.key && v.key <= high }, nil
}
