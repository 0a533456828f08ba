package postgres

import (
	"bytes"
	"errors"
	"iter"

	"github.com/jackc/pgx/v5"

	"github.com/hearth-faas/hearth/store"
)

// What a transaction holds in memory before it is sent.
const (
	maxPending      = 2048 // records
	maxPendingBytes = 4 << 20
)

// tx implements store.Tx for the requests of a batch, one after another. It
// reads from the writer's connection, beneath what was written: by the request
// at work (mine), and by those before it (ours). A transaction is begun only to
// write: nobody else writes, so that until then there is nothing to be kept
// apart from.
type tx struct {
	reader
	w      *writer
	ours   pending
	mine   pending
	begun  bool
	marked bool  // a savepoint is set: of mine, some was sent
	broken error // the first failure of the database
}

func (t *tx) reset() {
	t.ours, t.mine, t.begun, t.marked, t.broken = pending{}, pending{}, false, false, nil
	t.reader.query = t
}

// send implements querier.
func (t *tx) send(sql string, args []any, take func(pgx.Rows) error) error {
	if t.broken != nil {
		return t.broken
	}
	rows, err := t.w.conn.Query(background, sql, args...)
	if err == nil {
		err = taken(rows, take)
	}
	t.broken = err
	return err
}

// Get implements store.Reader.
func (t *tx) Get(bucket, key string) ([]byte, bool, error) {
	for _, p := range []*pending{&t.mine, &t.ours} {
		if value, there := p.get(bucket, key); there {
			return bytes.Clone(value), value != nil, nil
		}
	}
	return t.reader.Get(bucket, key)
}

// Scan implements store.Reader.
func (t *tx) Scan(bucket, prefix, after string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for {
			page, more, err := t.page(bucket, prefix, after)
			if err != nil {
				yield(store.Record{}, t.names.explain(err))
				return
			}
			last := ""
			if more {
				last = page[len(page)-1].Key
			}
			for _, p := range []*pending{&t.ours, &t.mine} {
				page = p.merge(page, bucket, prefix, after, last)
			}
			for _, rec := range page {
				if !yield(rec, nil) {
					return
				}
			}
			if !more {
				return
			}
			after = last
		}
	}
}

// Put implements store.Tx.
func (t *tx) Put(bucket, key string, value []byte) error {
	copied := make([]byte, len(value)) // not nil
	copy(copied, value)
	return t.write(bucket, key, copied)
}

// Delete implements store.Tx.
func (t *tx) Delete(bucket, key string) error { return t.write(bucket, key, nil) }

func (t *tx) write(bucket, key string, value []byte) error {
	if err := store.CheckKey(bucket, key); err != nil {
		return err
	}
	if t.broken != nil {
		return t.names.explain(t.broken)
	}
	t.mine.put(bucket, key, value)
	if t.mine.count < maxPending && t.mine.bytes < maxPendingBytes {
		return nil
	}
	if t.broken = t.spill(); t.broken != nil {
		return t.names.explain(t.broken)
	}
	return nil
}

// spill sends what the request has written so far, behind a savepoint.
func (t *tx) spill() error {
	if err := t.flush(false); err != nil {
		return err
	}
	var b pgx.Batch
	if !t.marked {
		b.Queue(`savepoint one`)
	}
	t.marked = true
	t.mine.queue(&b)
	t.mine = pending{}
	return t.exec(&b)
}

// settle ends a request: what it has written is the batch's, or is nothing.
func (t *tx) settle(keep bool) error {
	if !keep {
		t.mine = pending{}
	}
	if t.marked {
		var b pgx.Batch
		if !keep {
			b.Queue(`rollback to one`)
		}
		b.Queue(`release one`)
		if err := t.exec(&b); err != nil {
			return err
		}
	}
	t.ours.take(&t.mine)
	t.mine = pending{}
	if t.ours.count >= maxPending || t.ours.bytes >= maxPendingBytes {
		return t.flush(false)
	}
	return nil
}

// flush sends what the batch has written, with the transaction's begin before
// it if that was not sent, and its commit after it if it is the last.
func (t *tx) flush(last bool) error {
	var b pgx.Batch
	if !t.begun {
		b.Queue(beginSQL)
		b.Queue(fenceSQL, t.w.batch, t.w.epoch)
	}
	t.ours.queue(&b)
	if last {
		b.Queue(`commit`)
		t.w.sent = true
	}
	t.begun, t.ours = true, pending{}
	return t.exec(&b)
}

// exec sends statements in one message, and returns when all were done.
func (t *tx) exec(b *pgx.Batch) error {
	if b.Len() == 0 {
		return nil
	}
	br := t.w.conn.SendBatch(background, b)
	var err error
	for range b.Len() {
		if _, err = br.Exec(); err != nil {
			break
		}
	}
	return errors.Join(err, br.Close())
}
