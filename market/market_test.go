package market

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestAFeedsWordsAreTakenOrRefusedWithTheReason(t *testing.T) {
	for text, want := range map[string]Quote{
		`{"price": 0.5}`: {Price: 0.5, AvailableMiB: -1},
		`{"price": 0, "availableMiB": 0, "currency": "x"}`:            {},
		`{"price":2,"availableMiB":1024,"at":"2026-01-01T00:00:00Z"}`: {Price: 2, AvailableMiB: 1024, At: start},
	} {
		if q, err := Parse([]byte(text)); err != nil || q != want {
			t.Errorf("%s: %+v, %v", text, q, err)
		}
	}
	for _, text := range []string{``, `7`, `{}`, `{"price":-1}`, `{"price":1e12}`, `{"price":"1"}`, `{"price":1,"availableMiB":-5}`, `{"price":1`} {
		if q, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s was taken for %+v", text, q)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"price":1,"availableMiB":5,"at":"2026-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := Parse(data)
		if err == nil && (!(q.Price >= 0 && q.Price <= MaxPrice) || q.AvailableMiB < -1) {
			t.Errorf("%q became %+v", data, q)
		}
	})
}

func TestOnlyAKnownFreshPriceStartsOrEndsAnything(t *testing.T) {
	quote := Quote{Price: 3, AvailableMiB: 100}
	for name, c := range map[string]struct {
		s               State
		most            float64
		starts, retires bool
	}{
		"unknown":           {State{}, 0, false, false},
		"stale and cheap":   {State{Quote: quote, Known: true}, 5, false, false},
		"stale and dear":    {State{Quote: quote, Known: true}, 1, false, false},
		"suits":             {State{Quote: quote, Known: true, Fresh: true}, 3, true, false},
		"too dear":          {State{Quote: quote, Known: true, Fresh: true}, 2.9, false, true},
		"at any price":      {State{Quote: quote, Known: true, Fresh: true}, 0, true, false},
		"nothing available": {State{Quote: Quote{Price: 1}, Known: true, Fresh: true}, 5, false, true},
		"all available":     {State{Quote: Quote{Price: 1, AvailableMiB: -1}, Known: true, Fresh: true}, 5, true, false},
	} {
		if ok, why := c.s.Suits(c.most); ok != c.starts || ok != (why == "") {
			t.Errorf("%s: starts %v, %q", name, ok, why)
		}
		if got := c.s.Withdrawn(c.most); got != c.retires {
			t.Errorf("%s: withdrawn %v", name, got)
		}
	}
}

func TestAMeterAddsUpAChangingPrice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m Meter
		now, want := start, 0.0
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			price := rapid.Float64Range(0, 10).Draw(t, "price")
			m.Set(now, price)
			hours := rapid.IntRange(0, 100).Draw(t, "hours")
			now = now.Add(time.Duration(hours) * time.Hour)
			want += price * float64(hours)
			if got := m.Sum(now); math.Abs(got-want) > 1e-6*(1+want) {
				t.Fatalf("%v, want %v", got, want)
			}
		}
	})
}

func TestPricesTellTheShareOfTimeAndAreBounded(t *testing.T) {
	var p Prices
	if _, ok := p.Quantile(start, 0.5); ok {
		t.Error("nothing was seen")
	}
	p.Note(start, 1)
	p.Note(start.Add(3*time.Minute), 5)
	now := start.Add(4 * time.Minute) // three quarters of the time at 1
	for q, want := range map[float64]float64{0.25: 1, 0.75: 1, 0.8: 5, 1: 5} {
		if got, ok := p.Quantile(now, q); !ok || got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	for i := range 5000 {
		p.Note(now.Add(time.Duration(i)*time.Second), float64(i))
	}
	if len(p.kept) > maxPrices {
		t.Errorf("%d are kept", len(p.kept))
	}
	p.Note(now.Add(100*time.Hour), 1)
	if len(p.kept) > 2 {
		t.Errorf("after days %d are kept", len(p.kept))
	}
}

// wave is a price that is low in one of four minutes.
func wave(at time.Time) float64 {
	if int(at.Sub(start)/time.Minute)%4 == 0 {
		return 1
	}
	return 4
}

func TestWorkThatCanWaitStartsInATroughAndNeverLate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		offset := time.Duration(rapid.IntRange(0, 3600).Draw(t, "offset")) * time.Second
		limit := time.Duration(rapid.IntRange(1, 1200).Draw(t, "limit")) * time.Second
		accepted := start.Add(offset)
		w := Waiting{Accepted: accepted, Latest: accepted.Add(limit), Variable: true, Room: 5}
		var d Delay
		var p Prices
		for at := start; at.Before(accepted); at = at.Add(time.Second) {
			p.Note(at, wave(at))
		}
		for at := accepted; ; {
			if at.After(w.Latest) {
				t.Fatal("it is late")
			}
			p.Note(at, wave(at))
			s := State{Quote: Quote{Price: wave(at), AvailableMiB: -1}, Known: true, Fresh: true}
			st := d.Decide(w, s, &p, at)
			if st.Why == "" {
				t.Fatal("no reason")
			}
			if st.Now {
				if st.Fixed {
					t.Fatalf("it takes fixed capacity though variable suits: %+v", st)
				}
				if offset > 10*time.Minute && limit > 8*time.Minute && wave(at) != 1 {
					t.Fatalf("it starts at %v after %v of %v: %s", wave(at), at.Sub(accepted), limit, st.Why)
				}
				return
			}
			if !st.Again.After(at) {
				t.Fatalf("it is to be looked at again at once: %+v", st)
			}
			at = st.Again
		}
	})
}

func TestWorkThatNothingSuitsTakesFixedCapacityInTime(t *testing.T) {
	w := Waiting{Accepted: start, Latest: start.Add(time.Minute), Variable: true, MaxPrice: 1, Room: 5}
	dear := State{Quote: Quote{Price: 2, AvailableMiB: -1}, Known: true, Fresh: true}
	for name, s := range map[string]State{"dear": dear, "stale": {Quote: dear.Quote, Known: true}, "unknown": {}, "none": {Quote: Quote{}, Known: true, Fresh: true}} {
		var p Prices
		var d Delay
		if st := d.Decide(w, s, &p, start.Add(57*time.Second)); st.Now {
			t.Errorf("%s: started early: %+v", name, st)
		}
		if st := d.Decide(w, s, &p, start.Add(58*time.Second)); !st.Now || !st.Fixed {
			t.Errorf("%s: %+v", name, st)
		}
	}
	full := w
	full.MaxPrice, full.Running = 0, 5
	if st := (Delay{}).Decide(full, dear, &Prices{}, start.Add(58*time.Second)); !st.Now || !st.Fixed {
		t.Errorf("full: %+v", st)
	}
}

func TestOnFixedCapacityWorkThatCanWaitTakesIdleTimes(t *testing.T) {
	w := Waiting{Accepted: start, Latest: start.Add(time.Hour), Room: 2, FixedUse: 0.8}
	if st := (Delay{}).Decide(w, State{}, &Prices{}, start); st.Now {
		t.Errorf("busy: %+v", st)
	}
	w.FixedUse = 0.4
	if st := (Delay{}).Decide(w, State{}, &Prices{}, start); !st.Now || st.Fixed {
		t.Errorf("idle: %+v", st)
	}
	w.Running = 2
	if st := (Delay{}).Decide(w, State{}, &Prices{}, start); st.Now {
		t.Errorf("as many as there may be: %+v", st)
	}
}

func ExampleDelay() {
	w := Waiting{Accepted: start, Latest: start.Add(time.Hour), Variable: true, Below: 1, Room: 1}
	s := State{Quote: Quote{Price: 0.5, AvailableMiB: -1}, Known: true, Fresh: true}
	fmt.Println(Delay{}.Decide(w, s, &Prices{}, start).Why)
	// Output: the price 0.5 is what its policy calls cheap
}
