package node

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

// meterOf adds up what it is told, by function.
type meterOf map[string]*hearth.Metered

func (m meterOf) Used(f *hearth.Function, u *hearth.Metered) {
	name := ""
	if f != nil {
		name = string(f.Account) + "/" + f.Name
		if f.Shared != nil {
			name += " of " + string(f.Shared.Owner)
		}
	}
	if m[name] == nil {
		m[name] = &hearth.Metered{}
	}
	m[name].Add(u)
}

// What a node has used is told once, however often batches are sent again.
func TestUseIsToldOnceThroughBatchesThatAreSentAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &Records{used: newTally(), wake: make(chan struct{}, 1)}
		m := meterOf{}
		h := &HomeHandler{Meter: m}
		want := map[string]int64{}
		t.Repeat(map[string]func(*rapid.T){
			"use": func(t *rapid.T) {
				f := &hearth.Function{Account: "111122223333", Name: rapid.SampledFrom([]string{"f", "g"}).Draw(t, "function")}
				name := "111122223333/" + f.Name
				if rapid.Bool().Draw(t, "shared") {
					f.Shared = &hearth.Shared{Owner: "444455556666"}
					name += " of 444455556666"
				}
				n := rapid.Int64Range(1, 100).Draw(t, "calls")
				r.Used(f, &hearth.Metered{Calls: n, CPU: time.Duration(n)})
				want[name] += n
			},
			"send": func(t *rapid.T) {
				r.tellUsed()
				taken := rapid.IntRange(0, len(r.waiting)).Draw(t, "taken")
				for _, one := range r.waiting[:taken] {
					h.meter(one.Used)
				}
				if taken == len(r.waiting) && rapid.Bool().Draw(t, "acknowledged") {
					r.waiting, r.bytes = nil, 0
				}
			},
		})
		r.tellUsed()
		for _, one := range r.waiting {
			h.meter(one.Used)
		}
		for name, n := range want {
			if m[name] == nil || m[name].Calls != n || m[name].CPU != time.Duration(n) {
				t.Fatalf("%s: %+v, want %d", name, m[name], n)
			}
		}
	})
}
