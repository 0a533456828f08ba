package sqs

import (
	"runtime"
	"testing"
)

// heap is what is reachable, in bytes.
func heap() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

func TestAMessageTakesLittleMemoryWhateverItsBody(t *testing.T) {
	const n = 200_000
	w := newWorld(t)
	q, err := w.byARN(w.create("q"))
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	now := q.lock()
	for i := range uint64(n) {
		q.join(&message{seq: i + 1000, body: i + 1000, sent: now, due: now, size: MaxMessage}, "")
	}
	q.unlock()
	if each := (heap() - before) / n; each > 200 {
		t.Errorf("%d bytes a message", each)
	} else {
		t.Logf("%d bytes a message", each)
	}
	q.mu.Lock()
	clear(q.messages)
	q.agenda, q.ready = nil, line{}
	q.unlock()
}
