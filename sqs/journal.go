package sqs

import (
	"context"
	"sync"

	"github.com/hearth-faas/hearth/store"
)

// Bounds of what one commit takes, so that nobody waits long for the store.
const (
	commitWrites = 2048
	commitBytes  = 8 << 20
)

// write is one record to be written; a nil value deletes it.
type write struct {
	bucket, key string
	value       []byte
}

// journal commits changes in the order in which they were added: what has come
// while one commit ran goes into the next. It is what makes the order of a
// queue on disk that of its memory, and one fsync serve many callers.
type journal struct {
	store store.Store

	mu      sync.Mutex
	pending []change
	stopped bool

	wake  chan struct{} // something is pending, or it is stopped
	ended chan struct{}
}

// change is what one caller has to write, all or nothing, and who is told. It
// is told in the order of the changes, by the journal's goroutine.
type change struct {
	writes []write
	done   func(error)
}

func newJournal(s store.Store) *journal {
	j := &journal{store: s, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go j.run()
	return j
}

// add queues a change and returns at once. done must not wait for another.
func (j *journal) add(writes []write, done func(error)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.stopped {
		go done(store.ErrClosed) // not under the caller's locks
		return
	}
	j.pending = append(j.pending, change{writes, done})
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// do is add for one who waits.
func (j *journal) do(writes []write) error {
	done := make(chan error, 1)
	j.add(writes, func(err error) { done <- err })
	return <-done
}

// close commits what is pending and refuses what comes after.
func (j *journal) close() {
	j.mu.Lock()
	j.stopped = true
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
	<-j.ended
}

func (j *journal) run() {
	defer close(j.ended)
	for {
		batch, more := j.take()
		switch {
		case len(batch) > 0:
			j.commit(batch)
		case !more:
			return
		default:
			<-j.wake
		}
	}
}

// take removes the changes of the next commit; more is false once none will
// follow.
func (j *journal) take() (batch []change, more bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	writes, bytes, n := 0, 0, 0
	for n < len(j.pending) && (n == 0 || writes < commitWrites && bytes < commitBytes) {
		writes += len(j.pending[n].writes)
		for _, w := range j.pending[n].writes {
			bytes += len(w.value)
		}
		n++
	}
	batch = j.pending[:n:n]
	if j.pending = j.pending[n:]; len(j.pending) == 0 {
		j.pending = nil
	}
	return batch, !j.stopped
}

// commit writes a batch and tells its callers. If it fails as a whole, each
// change is tried by itself, so that none fails for what another wrote.
func (j *journal) commit(batch []change) {
	err := j.write(batch)
	if err != nil && len(batch) > 1 {
		for i := range batch {
			j.commit(batch[i : i+1])
		}
		return
	}
	for i := range batch {
		batch[i].done(err)
	}
}

func (j *journal) write(batch []change) error {
	return j.store.Update(context.Background(), func(tx store.Tx) error {
		for _, c := range batch {
			for _, w := range c.writes {
				var err error
				if w.value == nil {
					err = tx.Delete(w.bucket, w.key)
				} else {
					err = tx.Put(w.bucket, w.key, w.value)
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}
