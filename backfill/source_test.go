package backfill

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/internal/pgtest"
	"github.com/hearth-faas/hearth/s3"
)

// values are what a text is cut into.
func values(t *testing.T, form, text string) (got []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, it := range list(t, Spec{Source: form + "://" + path}, nil) {
		if seen[it.ID] {
			t.Errorf("%s: two items are %s", form, it.ID)
		}
		seen[it.ID] = true
		got = append(got, string(it.Value))
	}
	return got
}

func TestTextsAreCutWhereTheirRecordsEnd(t *testing.T) {
	for _, c := range []struct {
		form, text string
		want       []string
	}{
		{"csv", "\xef\xbb\xbfa,b\r\n1,\"x\ny\"\r\n\n2,z\n3,\"\"\"\"\n4,e", []string{`{"a":"1","b":"x\ny"}`, `{"a":"2","b":"z"}`, `{"a":"3","b":"\""}`, `{"a":"4","b":"e"}`}},
		{"csv", "a\n1\n2\n3\n4\n", []string{`{"a":"1"}`, `{"a":"2"}`, `{"a":"3"}`, `{"a":"4"}`}},
		{"csv", "", nil},
		{"csv", "a,b\n", nil},
		{"json", " [1 , {\"a\":[1,2]}\n,\"x]\",null , [ ] ]\n", []string{`1`, `{"a":[1,2]}`, `"x]"`, `null`, `[ ]`}},
		{"json", "[]", nil},
		{"json", "[1,2,3]", []string{"1", "2", "3"}},
		{"lines", "", nil},
	} {
		if got := values(t, c.form, c.text); !slices.Equal(got, c.want) {
			t.Errorf("%s %q: %q, want %q", c.form, c.text, got, c.want)
		}
	}
}

func TestRecordsAreKnownByAKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "text")
	for form, text := range map[string]string{"lines": "{\"k\":1}\n{\"k\":\"b\"}\n", "csv": "v,k\n0,1\n0,b\n", "json": `[{"k":1},{"k":"b"}]`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		items := list(t, Spec{Source: form + "://" + path, Key: "k"}, nil)
		if len(items) != 2 || items[0].ID != "1" || items[1].ID != "b" {
			t.Errorf("%s: %v", form, items)
		}
	}
	for _, bad := range []string{"1", "{}", `{"k":null}`, `{"k":[1]}`, `{"k":""}`} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenSource(Spec{Source: "lines://" + path, Key: "k"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Page(t.Context(), "", 1); !isOf[*recordError](err) {
			t.Errorf("%s: %v", bad, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestATextThatIsNotWhatItShouldBeSaysWhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "text")
	for _, c := range []struct{ form, text, want string }{
		{"csv", "a,b\n1,2\n3\n", "the record at byte 8 of " + path + " has 1 fields, and the header 2"},
		{"csv", "a,a\n", "twice"},
		{"csv", "a,b\n1,x\"y\n", "is no CSV"},
		{"json", `{"a":1}`, "is not in an array"},
		{"json", `[1,2`, "the text ends within the array"},
		{"json", `[1 2]`, "is no JSON"},
		{"json", ``, "the text ends within the array"},
		{"json", `["` + strings.Repeat("x", maxLine+2*buffer), "is a quote or a bracket missing"},
		{"csv", "a\n\"" + strings.Repeat("x", maxLine+2*buffer), "is a quote or a bracket missing"},
		{"lines", strings.Repeat("x", maxLine+2*buffer), "has more than"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenSource(Spec{Source: c.form + "://" + path}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = s.Page(t.Context(), "", 100)
		if err == nil || !strings.Contains(err.Error(), c.want) || !isOf[*recordError](err) {
			t.Errorf("%s %.20q: %v", c.form, c.text, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAnyTextIsCutTheSameFromEveryPosition cuts what a writer has written.
func TestAnyTextIsCutTheSameFromEveryPosition(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		records := rapid.SliceOfN(rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune("ab,\"\n ]}[{'é")), 0, 8, -1), 2, 2), 0, 20).Draw(rt, "records")
		var text bytes.Buffer
		var want []string
		form := rapid.SampledFrom([]string{"csv", "json"}).Draw(rt, "form")
		if form == "csv" {
			w := csv.NewWriter(&text)
			if err := w.Write([]string{"a", "b"}); err != nil {
				rt.Fatal(err)
			}
			for _, r := range records {
				if err := w.Write(r); err != nil {
					rt.Fatal(err)
				}
				b, _ := json.Marshal(map[string]string{"a": r[0], "b": r[1]})
				want = append(want, string(b))
			}
			w.Flush()
		} else {
			if len(records) == 0 {
				records = [][]string{}
			}
			b, _ := json.MarshalIndent(records, "", rapid.SampledFrom([]string{"", " "}).Draw(rt, "indent"))
			text.Write(b)
			for _, r := range records {
				b, _ := json.Marshal(r)
				want = append(want, string(b))
			}
		}
		var got []string
		for _, v := range values(t, form, text.String()) {
			var b bytes.Buffer
			if err := json.Compact(&b, []byte(v)); err != nil {
				rt.Fatal(err)
			}
			got = append(got, b.String())
		}
		if !slices.Equal(got, want) {
			rt.Errorf("%s %q: %q, want %q", form, text.String(), got, want)
		}
	})
}

func FuzzTexts(f *testing.F) {
	for _, form := range []string{"csv", "json", "lines"} {
		for _, text := range []string{"a,b\n1,2\n", "[1,{\"a\":2}]", "\xef\xbb\xbfa\n\"x\ny\"\n", "[1,]", "\"", "[[[["} {
			f.Add(form, text)
		}
	}
	f.Fuzz(func(t *testing.T, form, text string) {
		if !slices.Contains([]string{"csv", "json", "lines"}, form) {
			return
		}
		path := filepath.Join(t.TempDir(), "text")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		source := (&url.URL{Scheme: form, Path: path}).String()
		all := func(anew bool) (items []Item, failed bool) {
			s, err := OpenSource(Spec{Source: source}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { s.Close() }()
			for position := ""; ; {
				page, next, err := s.Page(t.Context(), position, 1)
				if err != nil {
					return items, true
				}
				for _, it := range page {
					if !json.Valid(it.Value) {
						t.Fatalf("%q of %q is no JSON", it.Value, text)
					}
				}
				items = append(items, page...)
				if position = next; next == "" {
					return items, false
				}
				if anew {
					s.Close()
					if s, err = OpenSource(Spec{Source: source}, nil); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		one, failed := all(false)
		two, failedToo := all(true)
		if !reflect.DeepEqual(one, two) || failed != failedToo {
			t.Errorf("%s %q: %v %v, and %v %v", form, text, one, failed, two, failedToo)
		}
	})
}

// objectStore is a real S3 client on a server in memory.
func objectStore(t testing.TB, wrap func(http.Handler) http.Handler) (gofakes3.Backend, *s3.Bucket) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("data"); err != nil {
		t.Fatal(err)
	}
	var handler http.Handler = gofakes3.New(backend).Server()
	if wrap != nil {
		handler = wrap(handler)
	}
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	b, err := s3.New(s3.Config{Endpoint: srv.URL, PathStyle: true, Region: "us-east-1", Clock: clock.System()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.CloseIdle)
	return backend, b
}

func putObject(t testing.TB, backend gofakes3.Backend, key, content string) {
	t.Helper()
	if _, err := backend.PutObject("data", key, map[string]string{"Last-Modified": time.Now().UTC().Format(http.TimeFormat)}, strings.NewReader(content), int64(len(content)), nil); err != nil {
		t.Fatal(err)
	}
}

func TestObjectsAreListedAndCut(t *testing.T) {
	refuse := false
	backend, objects := objectStore(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if refuse && r.URL.Query().Get("continuation-token") != "" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	var want []string
	for i := range 10 {
		key := fmt.Sprintf("in/ö %d+&.txt", i)
		putObject(t, backend, key, "x")
		want = append(want, key)
	}
	putObject(t, backend, "other/1", "x")
	for _, refuse = range []bool{false, true} {
		var got []string
		for _, it := range list(t, Spec{Source: "s3://data/in/"}, objects) {
			got = append(got, it.ID)
			var v struct{ Bucket, Key string }
			if err := json.Unmarshal(it.Value, &v); err != nil || v.Bucket != "data" || v.Key != it.ID || it.Modified.IsZero() {
				t.Errorf("%s: %s", it.ID, it.Value)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("listed %q, want %q", got, want)
		}
	}
	refuse = false
	lines := "0\n1\n\n2\n3\n4\n5\n6"
	putObject(t, backend, "big/lines", lines)
	var got []string
	for _, it := range list(t, Spec{Source: "lines+s3://data/big/lines"}, objects) {
		got = append(got, string(it.Value))
	}
	if want := []string{"0", "1", "2", "3", "4", "5", "6"}; !slices.Equal(got, want) {
		t.Errorf("the lines: %q", got)
	}
	// A name of columns is at the beginning, a position in the middle.
	putObject(t, backend, "big/csv", "n\n0\n1\n2\n3\n4\n5\n6")
	if items := list(t, Spec{Source: "csv+s3://data/big/csv"}, objects); len(items) != 7 || string(items[6].Value) != `{"n":"6"}` {
		t.Errorf("the records: %v", items)
	}
	items := list(t, Spec{Source: "chunks+s3://data/big/lines?size=4"}, objects)
	if n := (len(lines) + 3) / 4; len(items) != n || string(items[n-1].Value) != fmt.Sprintf(`{"bucket":"data","key":"big/lines","length":%d,"offset":%d}`, len(lines)-4*(n-1), 4*(n-1)) {
		t.Errorf("the chunks: %v", items)
	}
	// Another content is not gone on with.
	s, err := OpenSource(Spec{Source: "lines+s3://data/big/lines"}, objects)
	if err != nil {
		t.Fatal(err)
	}
	_, next, err := s.Page(t.Context(), "", 2)
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	putObject(t, backend, "big/lines", "another\ncontent\n")
	if _, _, err := s.Page(t.Context(), next, 2); !errors.Is(err, s3.ErrChanged) {
		t.Errorf("the object changed, and its next page is %v", err)
	}
	for _, source := range []string{"s3://none/", "lines+s3://data/none", "chunks+s3://data/none?size=3"} {
		s, err := OpenSource(Spec{Source: source}, objects)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Page(t.Context(), "", 2); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%s: %v", source, err)
		}
	}
}

// broken is an object whose connection breaks again and again.
type broken struct {
	Objects
	n int
}

func (b *broken) Open(ctx context.Context, bucket, key, tag string, from int64) (io.ReadCloser, string, error) {
	r, got, err := b.Objects.Open(ctx, bucket, key, tag, from)
	if err != nil {
		return nil, "", err
	}
	b.n++
	return struct {
		io.Reader
		io.Closer
	}{&failing{r, 100}, r}, got, nil
}

// failing breaks after some bytes.
type failing struct {
	r    io.Reader
	left int
}

func (f *failing) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := f.r.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}

func TestABrokenConnectionIsMadeAgain(t *testing.T) {
	backend, objects := objectStore(t, nil)
	var text strings.Builder
	for i := range 100 {
		fmt.Fprintln(&text, 100+i)
	}
	putObject(t, backend, "lines", text.String())
	b := &broken{Objects: objects}
	items := listAs(t, func() (Source, error) { return OpenSource(Spec{Source: "lines+s3://data/lines"}, b) }, false)
	if len(items) != 100 || b.n < 4 {
		t.Errorf("%d lines, by %d connections", len(items), b.n)
	}
}

func postgresSource(t *testing.T, address string, spec Spec) (Source, error) {
	t.Helper()
	config, err := pgconn.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	return OpenPostgreSQL(config, spec)
}

func TestRowsOfPostgreSQLAreListedByTheirKey(t *testing.T) {
	address := pgtest.New(t)
	db, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	do := func(q string) {
		t.Helper()
		if _, err := db.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	do(`CREATE TABLE t (id bigint PRIMARY KEY, "Name" text UNIQUE, at timestamptz, f float8, u uuid DEFAULT gen_random_uuid())`)
	do(`INSERT INTO t SELECT n, 'name ' || n, to_timestamp(1000 + n), 1.0 / n FROM generate_series(1, 20) AS n`)
	for _, key := range []string{"", "id", "Name", "at", "f", "u"} {
		spec := Spec{Query: `SELECT id, "Name", at, f, u FROM t WHERE id > 3; `, Key: key, Modified: "at"}
		open := func() (Source, error) { return postgresSource(t, address, spec) }
		items := listAs(t, open, false)
		if again := listAs(t, open, true); !reflect.DeepEqual(items, again) {
			t.Errorf("by %q: %v, and %v", key, items, again)
		}
		seen := map[float64]bool{}
		for _, it := range items {
			var v map[string]any
			if err := json.Unmarshal(it.Value, &v); err != nil {
				t.Fatal(err)
			}
			n := v["id"].(float64)
			seen[n] = true
			if it.Modified.Unix() != 1000+int64(n) || v["Name"] != "name "+strconv.Itoa(int(n)) || key == "Name" && it.ID != v["Name"] {
				t.Errorf("by %q: %s, modified %v: %s", key, it.ID, it.Modified, it.Value)
			}
		}
		if len(items) != 17 || len(seen) != 17 {
			t.Errorf("by %q: %d rows, of which %d are different", key, len(items), len(seen))
		}
	}
	s, err := postgresSource(t, address, Spec{Query: "SELECT * FROM t", Modified: "at"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	s.(Dated).Since(time.Unix(1015, 0))
	if items, _, err := s.Page(t.Context(), "", 100); err != nil || len(items) != 6 || items[0].ID != "15" {
		t.Errorf("since a time: %v, %v", items, err)
	}
	// A connection that was cut is made again.
	do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hearth backfill'")
	for end := time.Now().Add(time.Minute); ; {
		items, _, err := s.Page(t.Context(), "", 100)
		if err == nil && len(items) == 6 {
			break
		}
		if hearth.KindOf(err) == hearth.InvalidParameter || time.Now().After(end) {
			t.Fatalf("after its connection was cut: %v, %v", items, err)
		}
	}
	do("CREATE TABLE n (id int); INSERT INTO n VALUES (1), (NULL)")
	for query, want := range map[string]string{
		"SELECT * FROM n":    "is null",
		"SELECT nothing":     "does not exist",
		"DELETE FROM n":      "syntax error",
		"SELECT 1; SELECT 2": "syntax error",
		"WITH d AS (DELETE FROM n RETURNING 1 AS one) SELECT * FROM d": "data-modifying",
	} {
		s, err := postgresSource(t, address, Spec{Query: query})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = s.Page(t.Context(), "", 10)
		if hearth.KindOf(err) != hearth.InvalidParameter || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", query, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	wrong, err := postgresSource(t, strings.Replace(address, pgtest.Password, "another-secret", 1), Spec{Query: "SELECT 1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := wrong.Page(t.Context(), "", 10); err == nil || strings.Contains(err.Error(), "another-secret") {
		t.Errorf("with a wrong password: %v", err)
	}
}
