package awsjson

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Time is a time as these protocols write it in JSON: seconds since 1970, with
// a fraction. A text in RFC 3339 is read too, since some clients send it.
type Time time.Time

// Stamp is a time for an output; nil, and so nothing, if it is zero.
func Stamp(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	return (*Time)(&t)
}

// Of is the inverse for what a request may leave out: zero for nil.
func (t *Time) Of() time.Time {
	if t == nil {
		return time.Time{}
	}
	return time.Time(*t).UTC()
}

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(time.Time(t).UnixMilli())/1e3, 'f', -1, 64), nil
}

// latest bounds times, in seconds: the year 9999.
const latest = 253402300799

// UnmarshalJSON implements json.Unmarshaler.
func (t *Time) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*time.Time)(t))
	}
	s, err := strconv.ParseFloat(string(b), 64)
	if err != nil || s < 0 || s > latest {
		return fmt.Errorf("%s is no time in seconds since 1970", b)
	}
	*t = Time(time.UnixMilli(int64(math.Round(s * 1e3))).UTC())
	return nil
}
