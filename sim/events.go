package sim

import "time"

// kind of an event.
type kind uint8

const (
	arrive kind = iota
	finish      // of an invocation
	ready       // of a container being made
	decide      // the keeper wanted to be asked
)

type event struct {
	at   time.Duration
	seq  uint64 // orders what happens at the same time
	f    int32
	kind kind
	gen  uint32 // of decide
}

// queue is a binary heap of events, the earliest first.
type queue struct {
	heap []event
	seq  uint64
}

func (a *event) before(b *event) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

func (q *queue) push(e event) {
	q.seq++
	e.seq = q.seq
	q.heap = append(q.heap, e)
	i := len(q.heap) - 1
	for i > 0 {
		p := (i - 1) / 2
		if q.heap[p].before(&e) {
			break
		}
		q.heap[i] = q.heap[p]
		i = p
	}
	q.heap[i] = e
}

func (q *queue) pop() event {
	top := q.heap[0]
	n := len(q.heap) - 1
	e := q.heap[n]
	q.heap = q.heap[:n]
	i := 0
	for {
		c := 2*i + 1
		if c >= n {
			break
		}
		if c+1 < n && q.heap[c+1].before(&q.heap[c]) {
			c++
		}
		if e.before(&q.heap[c]) {
			break
		}
		q.heap[i] = q.heap[c]
		i = c
	}
	if n > 0 {
		q.heap[i] = e
	}
	return top
}
