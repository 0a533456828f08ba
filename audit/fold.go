package audit

import (
	"time"

	"github.com/hearth-faas/hearth"
)

// Reads and refusals cost nothing to make, and the log is bounded: without a
// bound of their own, whoever sends enough of them would push everybody else's
// records out, be it a program that looks on once in a second. So each account's
// are recorded one by one up to a rate; beyond it those of the same kind are
// counted, and leave one record in foldEvery. What nobody has signed for shares
// one rate.

const (
	readRate    = 0.2 // a second, for each account
	refusalRate = 5
	foldBurst   = 200
	foldEvery   = 10 * time.Second
	maxFolds    = 1024 // kinds; beyond them what comes is counted without a kind
	maxBuckets  = 4096 // accounts
)

type foldKey struct {
	account         hearth.Account
	service, action string
	errorCode       string
	ip              string // of what nobody has signed for
}

type bucketKey struct {
	account hearth.Account
	refused bool
}

type bucket struct {
	left float64
	at   time.Time
}

type folds struct {
	buckets map[bucketKey]*bucket
	counts  map[foldKey]*Event
	told    time.Time
}

// take tells whether the event is counted with others, and counts it.
func (f *folds) take(e *Event, now time.Time) bool {
	whose, rate := bucketKey{e.Account, e.ErrorCode != ""}, readRate
	if whose.refused {
		rate = refusalRate
	}
	b := f.buckets[whose]
	if b == nil {
		if f.buckets == nil || len(f.buckets) >= maxBuckets {
			f.buckets = map[bucketKey]*bucket{}
		}
		b = &bucket{foldBurst, now}
		f.buckets[whose] = b
	}
	b.left = min(foldBurst, b.left+now.Sub(b.at).Seconds()*rate)
	b.at = now
	if b.left >= 1 {
		b.left--
		return false
	}
	key := foldKey{account: e.Account, service: e.Service, action: e.Action, errorCode: e.ErrorCode}
	if e.Account == "" {
		key.ip, key.action = e.SourceIP, ""
	}
	if f.counts == nil {
		f.counts, f.told = map[foldKey]*Event{}, now
	}
	sum := f.counts[key]
	if sum == nil && len(f.counts) >= maxFolds {
		key = foldKey{}
		sum = f.counts[key]
	}
	if sum == nil {
		sum = &Event{
			Time: e.Time, Account: e.Account, Service: key.service, Action: e.Action, ErrorCode: key.errorCode, ReadOnly: e.ReadOnly, SourceIP: key.ip, Principal: e.Principal,
		}
		f.counts[key] = sum
	}
	sum.Times++
	return true
}

func (f *folds) any() bool { return len(f.counts) > 0 }

// due returns the counts once in foldEvery, and begins anew.
func (f *folds) due(now time.Time) []Event {
	if !f.any() || now.Sub(f.told) < foldEvery {
		return nil
	}
	return f.all()
}

func (f *folds) all() (all []Event) {
	for _, e := range f.counts {
		all = append(all, *e)
	}
	f.counts = nil
	return all
}
