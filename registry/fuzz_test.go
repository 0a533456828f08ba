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

// Records are read without encoding/json, and as it would read them.
func TestWhatIsWrittenIsReadInOnePass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rec := rapid.Make[functionRecord]().Draw(t, "function")
		published := rapid.Make[versionRecord]().Draw(t, "version")
		for _, c := range []*configuration{&rec.Newest, rec.Active, rec.Running, &published.Function} {
			if c != nil {
				c.LastModified, c.PublishedAt = time.Unix(1<<30, 5).UTC(), time.Time{}
				c.Generation >>= 8
				c.MemoryMiB >>= 8
				c.TimeoutSeconds >>= 8
				c.TmpMiB >>= 8
				c.Package.Size >>= 8
				c.Package.Unpacked >>= 8
			}
		}
		if rec.Published != nil {
			rec.Published.Function.LastModified, rec.Published.Function.PublishedAt = time.Unix(1, 0).UTC(), time.Unix(2, 0).UTC()
		}
		rec.Next >>= 8
		d := newDecoder(vault{})
		same(t, &rec, d.readFunction)
		same(t, &published, d.readVersion)
	})
}

// same fails the test unless read makes of rec's JSON what encoding/json does.
func same[T any](t tester, rec *T, read func([]byte, *T) bool) {
	b, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	var got, want T
	if !read(b, &got) {
		t.Fatalf("%s is not read", b)
	}
	if err := json.Unmarshal(b, &want); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%s was read as\n%+v, not\n%+v %v", b, got, want, err)
	}
}

type tester interface {
	Fatalf(string, ...any)
	Fatal(...any)
}

// What the parser reads, encoding/json reads too, and as the same.
func FuzzParser(f *testing.F) {
	for _, s := range []string{
		`{"newest":{"account":"1","generation":7,"memoryMiB":-1,"architectures":["a","b"],"package":{"sha256":"x","size":1},"lastModified":"2026-01-02T03:04:05.6Z","description":"a\u00e9\n"},"next":1,"none":true,"tags":{"a":"b"}}`,
		`{"newest":{"architectures":[],"logging":{"format":"Text"},"vpc":{"subnetIds":["{"]},"layers":[{"arn":"]"}],"env":"AAAA"}}`,
		`{"newest":{"package":{"sha256":"x"},"package":{"size":2}},"next":01}`,
		`{"newest":{"Name":"f","name":null}} `, `{"next":1,}`, `{"next":1}{`, `{,"next":1}`, `{"newest":{"image":{"entryPoint":["\""]}},"active":[}`, `{}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newDecoder(vault{})
		var got, want functionRecord
		if d.readFunction(b, &got) {
			if err := json.Unmarshal(b, &want); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%q was read as\n%+v, not\n%+v %v", b, got, want, err)
			}
		}
		var ver, wantVer versionRecord
		if d.readVersion(b, &ver) {
			if err := json.Unmarshal(b, &wantVer); err != nil || !reflect.DeepEqual(ver, wantVer) {
				t.Errorf("%q was read as\n%+v, not\n%+v %v", b, ver, wantVer, err)
			}
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
		if v, err := newDecoder(vault{own: plain{}}).view(b); err == nil && v.newest == nil {
			t.Errorf("%q has no function", b)
		}
		if v, err := newDecoder(vault{own: plain{}}).publishedVersion(b); err == nil && (v.f == nil || v.number < 1) {
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
