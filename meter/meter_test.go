package meter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/storetest"
)

var evening = time.Date(2026, 11, 28, 19, 59, 58, 0, time.UTC)

const alice, bob hearth.Account = "111122223333", "444455556666"

func open(t testing.TB, s store.Store, c hearth.Clock) *Meter {
	t.Helper()
	m, err := Open(t.Context(), Config{Store: s, Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func bill(t testing.TB, m *Meter, q Query) *Bill {
	t.Helper()
	b, err := m.Bill(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fn(a hearth.Account, name string) *hearth.Function {
	return &hearth.Function{Account: a, Name: name}
}

func TestABillAddsUpWhatWasToldByFunctionAndHour(t *testing.T) {
	c := clock.NewFake(evening)
	m := open(t, &storetest.Memory{}, c)
	m.Used(fn(alice, "f"), &hearth.Metered{Calls: 2, CPU: time.Second, Allotted: 1024, NetworkIn: 10})
	m.Used(fn(alice, "g"), &hearth.Metered{Calls: 1, Errors: 1, CPU: time.Millisecond})
	m.Used(fn(bob, "f"), &hearth.Metered{Calls: 7})
	m.Used(nil, &hearth.Metered{CPU: time.Minute})
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Minute) // the next hour
	m.Used(fn(alice, "f"), &hearth.Metered{Calls: 1, CPU: time.Second, Busy: time.Second})
	b := bill(t, m, Query{Account: alice})
	if len(b.Lines) != 2 || b.Lines[0].Function != "f" || b.Lines[0].Calls != 3 || b.Lines[0].CPUSeconds != 2 || b.Lines[1].Errors != 1 || b.Total.Calls != 4 || len(b.Revenue) != 0 {
		t.Errorf("%+v", b)
	}
	b = bill(t, m, Query{Account: alice, By: "hour"})
	if len(b.Lines) != 2 || b.Lines[0].Hour != "2026-11-28T19" || b.Lines[0].Calls != 3 || b.Lines[1].Hour != "2026-11-28T20" || b.Lines[1].Calls != 1 {
		t.Errorf("by hour: %+v", b.Lines)
	}
	b = bill(t, m, Query{By: "account"})
	if len(b.Lines) != 3 || b.Lines[2].Account != Nobody || b.Lines[2].CPUSeconds != 60 || b.Total.Calls != 11 {
		t.Errorf("all: %+v", b.Lines)
	}
	if b := bill(t, m, Query{Account: alice, Month: "2026-10"}); len(b.Lines) != 0 || b.Total != (Line{}) {
		t.Errorf("of another month: %+v", b)
	}
	for _, q := range []Query{{Month: "2026-13"}, {Month: "November"}, {By: "planet"}} {
		if _, err := m.Bill(t.Context(), q); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

func TestPricesHoldFromTheirHourOn(t *testing.T) {
	c := clock.NewFake(evening)
	s := &storetest.Memory{}
	m := open(t, s, c)
	use := &hearth.Metered{Calls: 10, CPU: 2 * time.Second, Allotted: 2048, NetworkIn: 5e8, NetworkOut: 5e8}
	m.Used(fn(alice, "f"), use)
	if b := bill(t, m, Query{Account: alice}); b.Total.Cost != 0 {
		t.Errorf("without prices: %+v", b.Total)
	}
	if err := m.SetPrices(t.Context(), Prices{Currency: "EUR", CPUSecond: 1, GiBSecond: 10, NetworkGB: 100, Call: 1000}); err != nil {
		t.Fatal(err)
	}
	if b := bill(t, m, Query{Account: alice}); b.Total.Cost != 2+20+100+10000 || b.Currency != "EUR" {
		t.Errorf("in the same hour: %+v", b.Total)
	}
	c.Advance(time.Minute)
	if err := m.SetPrices(t.Context(), Prices{CPUSecond: 2}); err != nil {
		t.Fatal(err)
	}
	m.Used(fn(alice, "f"), use)
	if b := bill(t, open(t, s, c), Query{Account: alice}); b.Total.Cost != 10122 { // what is not written is not seen by another
		t.Errorf("before: %+v", b.Total)
	}
	if b := bill(t, m, Query{Account: alice}); b.Total.Cost != 10122+4 {
		t.Errorf("an hour later: %+v", b.Total)
	}
	if again := open(t, s, c); len(again.Prices()) != 2 || again.Prices()[0].Currency != "EUR" {
		t.Errorf("read again: %+v", again.Prices())
	}
	for _, p := range []Prices{{CPUSecond: -1}, {Call: math.NaN()}, {GiBSecond: math.Inf(1)}, {Currency: "doubloons"}} {
		if err := m.SetPrices(t.Context(), p); hearth.KindOf(err) != hearth.InvalidParameter {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// failing is a store whose writes can be made to fail.
type failing struct {
	store.Store
	down bool
}

func (f *failing) Update(ctx context.Context, fn func(store.Tx) error) error {
	if f.down {
		return errors.New("the disk is full")
	}
	return f.Store.Update(ctx, fn)
}

// Whatever is told, written, lost in a crash and written by the next, the
// records hold what was told before the last write that succeeded and nothing
// twice.
func TestWhatIsWrittenIsCountedOnceAndWhatIsNotIsLostWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := clock.NewFake(evening)
		s := &failing{Store: &storetest.Memory{}}
		ctx := context.Background()
		make := func() *Meter {
			m, err := Open(ctx, Config{Store: s, Clock: c})
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		m := make()
		written, pending := map[string]int64{}, map[string]int64{}
		t.Repeat(map[string]func(*rapid.T){
			"use": func(t *rapid.T) {
				f := fn(rapid.SampledFrom([]hearth.Account{alice, bob}).Draw(t, "account"), rapid.SampledFrom([]string{"f", "g"}).Draw(t, "function"))
				n := rapid.Int64Range(1, 1000).Draw(t, "calls")
				m.Used(f, &hearth.Metered{Calls: n})
				pending[string(f.Account)+f.Name] += n
			},
			"write": func(t *rapid.T) {
				s.down = rapid.Bool().Draw(t, "down")
				if err := m.Flush(ctx); (err != nil) != (s.down && len(pending) > 0) {
					t.Fatalf("down %v: %v", s.down, err)
				} else if err == nil {
					for k, n := range pending {
						written[k] += n
					}
					clear(pending)
				}
				s.down = false
			},
			"crash": func(t *rapid.T) { m = make(); clear(pending) },
			"time":  func(t *rapid.T) { c.Advance(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute) },
			"": func(t *rapid.T) {
				got := map[string]int64{}
				_ = s.View(ctx, func(r store.Reader) error {
					for rec := range r.Scan(bucket, "", "") {
						row, err := decodeRow(rec.Key, rec.Value)
						if err != nil {
							t.Fatal(err)
						}
						got[string(row.Account)+row.Function] += row.Used.Calls
					}
					return nil
				})
				for k, n := range written {
					if got[k] != n {
						t.Fatalf("%s: %d on disk, want %d", k, got[k], n)
					}
				}
				if len(got) != len(written) {
					t.Fatalf("%v on disk, want %v", got, written)
				}
			},
		})
	})
}

func TestItIsWrittenEveryFewSecondsAndWhenItEnds(t *testing.T) {
	c := clock.NewFake(evening)
	s := &storetest.Memory{}
	settled := 0
	m, err := Open(t.Context(), Config{Store: s, Clock: c, Settle: func(context.Context) { settled++ }})
	if err != nil {
		t.Fatal(err)
	}
	m.Start()
	onDisk := func() int64 {
		u, _ := open(t, s, c).Month(t.Context(), alice, func(*Key) bool { return true })
		return u.Calls
	}
	for i := range int64(3) {
		m.Used(fn(alice, "f"), &hearth.Metered{Calls: 1})
		if onDisk() != i {
			t.Errorf("%d on disk at once", onDisk())
		}
		c.Advance(DefaultEvery)
		if onDisk() != i+1 || settled != int(i)+1 {
			t.Errorf("%d on disk, %d settled", onDisk(), settled)
		}
	}
	m.Used(fn(alice, "f"), &hearth.Metered{Calls: 1})
	if u, err := m.Month(t.Context(), alice, func(k *Key) bool { return k.Function == "f" }); err != nil || u.Calls != 4 {
		t.Errorf("with what is not written: %+v, %v", u, err)
	}
	if err := m.Close(); err != nil || onDisk() != 4 {
		t.Errorf("%d on disk after its end, %v", onDisk(), err)
	}
}

func TestOldRecordsGo(t *testing.T) {
	c := clock.NewFake(evening)
	s := &storetest.Memory{}
	m, err := Open(t.Context(), Config{Store: s, Clock: c, Keep: 48 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	m.Used(fn(alice, "f"), &hearth.Metered{Calls: 1})
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Advance(72 * time.Hour)
	m.Used(fn(alice, "f"), &hearth.Metered{Calls: 2})
	if b := bill(t, m, Query{Month: "2026-11"}); b.Total.Calls != 0 {
		t.Errorf("after three days: %+v", b.Total)
	}
	if b := bill(t, m, Query{Account: alice}); b.Total.Calls != 2 {
		t.Errorf("of today: %+v", b.Total)
	}
}

func TestManyTellAtOnce(t *testing.T) {
	m := open(t, &storetest.Memory{}, clock.NewFake(evening))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 500 {
				m.Used(fn(alice, fmt.Sprint("f", i%3)), &hearth.Metered{Calls: 1})
			}
		})
		all.Go(func() {
			for range 20 {
				if err := m.Flush(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if b := bill(t, m, Query{Account: alice}); b.Total.Calls != 4000 {
		t.Errorf("%+v", b.Total)
	}
}

func TestMetricsHaveABoundedNumberOfAccounts(t *testing.T) {
	m := open(t, &storetest.Memory{}, clock.NewFake(evening))
	for i := range 3 * maxLabels {
		m.Used(fn(hearth.Account(fmt.Sprintf("%012d", i)), "f"), &hearth.Metered{Calls: 1, CPU: time.Second})
	}
	r := prometheus.NewRegistry()
	r.MustRegister(m)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		sum := 0.0
		for _, v := range f.Metric {
			sum += v.Counter.GetValue()
		}
		if f.GetName() == "hearth_account_calls_total" && (len(f.Metric) > maxLabels+1 || sum != 3*maxLabels) {
			t.Errorf("%d accounts of %v calls", len(f.Metric), sum)
		}
	}
}

func TestARecordOfANewerHearthIsNotTaken(t *testing.T) {
	for _, value := range []string{`{"v":2}`, `{`, `null`, `{"v":1,"used":{"calls":"many"}}`} {
		if _, err := decodeRow("x", []byte(value)); err == nil || !strings.HasPrefix(err.Error(), "meter: the record x ") {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func FuzzDecodeRow(f *testing.F) {
	f.Add(encodeRow(&Row{Key: Key{Hour: "2026-11-28T19", Account: alice, Function: "f", Markup: 0.25}, Used: hearth.Metered{Calls: 3, Allotted: 1.5}}))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decodeRow("x", value)
		if err != nil {
			return
		}
		again, err := decodeRow("x", encodeRow(r))
		if err != nil || *again != *r {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}

// What the caller calls it is none of the owner's business; what the owner calls
// it is what its revenue comes from.
func TestRevenueIsOfTheOwnersFunctionsAndShowsNoNameOfTheCallers(t *testing.T) {
	c := clock.NewFake(evening)
	m := open(t, &storetest.Memory{}, c)
	if err := m.SetPrices(t.Context(), Prices{CPUSecond: 1}); err != nil {
		t.Fatal(err)
	}
	run := func(owner hearth.Account, theirs, ours string) {
		f := fn(alice, ours)
		f.Shared = &hearth.Shared{Owner: owner, OwnerFunction: theirs, Markup: 0.5}
		m.Used(f, &hearth.Metered{Calls: 1, CPU: time.Second})
	}
	const carol hearth.Account = "777788889999"
	run(bob, "resize", "takeover-of-dan")
	run(bob, "resize", "small")
	run(bob, "exif", "small") // the name was given to another function
	run(carol, "exif", "other")
	for _, by := range []string{"function", "api", "hour", "account"} {
		b := bill(t, m, Query{Account: bob, By: by})
		if text := fmt.Sprintf("%+v", b); strings.Contains(text, "takeover") || strings.Contains(text, "small") {
			t.Errorf("by %s the owner is told %s", by, text)
		}
		if b.RevenueTotal.Calls != 3 || b.RevenueTotal.Cost != 1.5 {
			t.Errorf("by %s: %+v", by, b.RevenueTotal)
		}
	}
	b := bill(t, m, Query{Account: bob})
	if len(b.Revenue) != 2 || b.Revenue[0].Function != "exif" || b.Revenue[1].Function != "resize" || b.Revenue[1].Calls != 2 || b.Revenue[1].Cost != 1 {
		t.Errorf("by function: %+v", b.Revenue)
	}
	if b := bill(t, m, Query{Account: alice}); len(b.Lines) != 3 || b.Lines[2].Function != "takeover-of-dan" {
		t.Errorf("the caller's: %+v", b.Lines)
	}
	// The operator sees to whom it comes.
	if b := bill(t, m, Query{By: "account"}); len(b.Revenue) != 2 || b.Revenue[0].Owner != bob || b.Revenue[0].Cost != 1.5 || b.Revenue[1].Owner != carol || b.Revenue[1].Cost != 0.5 {
		t.Errorf("the operator's: %+v", b.Revenue)
	}
}

func TestAmountsOfTwoCurrenciesAreNotAddedUpNorRenamed(t *testing.T) {
	c := clock.NewFake(time.Date(2026, 11, 30, 22, 30, 0, 0, time.UTC))
	m := open(t, &storetest.Memory{}, c)
	set := func(p Prices) {
		t.Helper()
		if err := m.SetPrices(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	use := &hearth.Metered{Calls: 1, CPU: time.Second}
	set(Prices{Currency: "EUR", CPUSecond: 2})
	m.Used(fn(alice, "f"), use)
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Hour)
	set(Prices{Currency: "USD", CPUSecond: 3})
	m.Used(fn(alice, "f"), use)
	b := bill(t, m, Query{Account: alice})
	if b.Currency != "USD" || b.Total.Calls != 2 || b.Total.Cost != 3 || len(b.Lines) != 2 ||
		b.Lines[0].Currency != "" || b.Lines[0].Cost != 3 || b.Lines[1].Currency != "EUR" || b.Lines[1].Cost != 2 {
		t.Errorf("of both: %+v", b)
	}
	// Prices of the next month do not rename what this one has cost.
	c.Advance(time.Hour)
	set(Prices{Currency: "GBP", CPUSecond: 5})
	m.Used(fn(alice, "f"), use)
	if b := bill(t, m, Query{Account: alice, Month: "2026-11"}); b.Currency != "USD" || b.Total.Cost != 3 {
		t.Errorf("of the month before: %+v", b)
	}
	if b := bill(t, m, Query{Account: alice}); b.Month != "2026-12" || b.Currency != "GBP" || b.Total.Cost != 5 || len(b.Lines) != 1 {
		t.Errorf("of the month: %+v", b)
	}
}
