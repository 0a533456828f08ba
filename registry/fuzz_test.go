package registry

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

// plain seals by saying what it is sealed to.
type plain struct{}

func (plain) Seal(text, to []byte) ([]byte, error) {
	return append([]byte(string(to)+"|"), text...), nil
}
func (plain) Open(sealed, to []byte) ([]byte, error) {
	if n := len(to) + 1; len(sealed) >= n && string(sealed[:n]) == string(to)+"|" {
		return sealed[n:], nil
	}
	return nil, errors.New("sealed to another")
}

// Every field that hearth.Function has, or gets, is kept.
func TestAFunctionIsReadBackAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.Make[hearth.Function]().Draw(t, "function")
		f.Timeout = time.Duration(rapid.IntRange(0, 900).Draw(t, "timeout")) * time.Second
		at := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "time"), 123456789).UTC()
		f.LastModified, f.PublishedAt = at, at
		f.Shared = nil // of what is derived from a function, which is never kept
		own(&f)
		c, err := encode(&f, vault{own: plain{}})
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var back configuration
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		g, err := decode(&back, vault{own: plain{}})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(&f, g) {
			t.Fatalf("%+v\nbecame\n%+v", &f, g)
		}
	})
}

func FuzzMarker(f *testing.F) {
	f.Add(marked("name", 3))
	f.Add("")
	f.Add("YTotMQ==")
	f.Fuzz(func(t *testing.T, marker string) {
		name, n, err := readMarker(marker)
		if err == nil && marker != "" && (!validName(name) || n < 0 || n > maxNumber) {
			t.Errorf("%q became %q %d", marker, name, n)
		}
		if err != nil && hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%q: %v", marker, err)
		}
	})
}

func FuzzRecords(f *testing.F) {
	fn := &hearth.Function{Account: "1", Name: "f", Version: "1", Env: map[string]string{"a": "b"}}
	v := &view{newest: fn, next: 1}
	rec, err := v.encode(vault{own: plain{}})
	if err != nil {
		f.Fatal(err)
	}
	b, err := json.Marshal(rec)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"newest":{"env":"AAAA"}}`))
	f.Add([]byte(`{"function":{"version":"1"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := decodeView(b, vault{own: plain{}}); err == nil && v.newest == nil {
			t.Errorf("%q has no function", b)
		}
		if v, err := decodeVersion(b, vault{own: plain{}}); err == nil && (v.f == nil || v.number < 1) {
			t.Errorf("%q has no version", b)
		}
		if a, err := decodeAlias(key{"1", "f"}, "us-east-1", "live", b); err == nil && a.Name != "live" {
			t.Errorf("%q has no alias", b)
		}
	})
}

func FuzzNumber(f *testing.F) {
	f.Add("1")
	f.Add("$LATEST")
	f.Fuzz(func(t *testing.T, s string) {
		if n := number(s); n != 0 && (n < 0 || n > maxNumber) {
			t.Errorf("%q became %d", s, n)
		}
	})
}
