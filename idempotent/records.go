package idempotent

import (
	"container/list"
	"time"

	"github.com/hearth-faas/hearth"
)

// record is what is kept of a run: the states that it ran by, and its result.
// It is not changed once it is kept.
type record struct {
	key, line sum
	account   hearth.Account
	function  string
	states    []State
	request   string // the id of the run
	at        time.Time
	ran       time.Duration // what the run kept an environment busy for
	first     bool          // it was its container's first

	result hearth.Result
	// blob is where the payload is that is too large to be in memory; "" is in
	// result.
	blob string
	size int64 // of the payload, in bytes
}

// inline bounds the payloads that are in memory, in bytes.
const inline = 4 << 10

// memory is roughly what the record takes of it, in bytes.
func (r *record) memory() (n int64) {
	n = 512 + int64(len(r.result.Payload))
	for _, s := range r.states {
		n += 64 + int64(len(s.Name)+len(s.Value))
	}
	return n
}

// onDisk is what its blob takes.
func (r *record) onDisk() int64 {
	if r.blob == "" {
		return 0
	}
	return r.size
}

type owner struct {
	account  hearth.Account
	function string
}

// records are the records of all functions, bounded in number for each function
// and in bytes for all: who was used least lately gives way. Not safe for
// concurrent use; pure.
type records struct {
	maxMemory, maxDisk int64

	of       map[sum]*entry
	latest   map[sum]*entry // by line: the record that was made last
	all      *list.List     // of *entry, used least lately at the end
	owners   map[owner]*list.List
	blobs    map[string]int // how many records use each
	memory   int64
	disk     int64
	released []string // blobs that no record uses any more
	dropped  []*record
}

type entry struct {
	*record
	inAll, inOwn *list.Element
}

func newRecords(maxMemory, maxDisk int64) *records {
	return &records{maxMemory: maxMemory, maxDisk: maxDisk, of: map[sum]*entry{}, latest: map[sum]*entry{},
		all: list.New(), owners: map[owner]*list.List{}, blobs: map[string]int{}}
}

// get is the record of that key, unless it is older than ttl (0 is any age).
func (r *records) get(key sum, ttl time.Duration, now time.Time) *record {
	e := r.of[key]
	if e == nil {
		return nil
	}
	if ttl > 0 && now.Sub(e.at) >= ttl {
		return nil // it is explained by, until another takes its place
	}
	r.all.MoveToFront(e.inAll)
	r.owners[owner{e.account, e.function}].MoveToFront(e.inOwn)
	return e.record
}

// last is the record that was made last of the line, whatever its states; nil
// if there is none.
func (r *records) last(line sum) *record {
	if e := r.latest[line]; e != nil {
		return e.record
	}
	return nil
}

// put keeps a record, in the place of one with the same key, and drops what is
// too much; at most most of the function are kept.
func (r *records) put(rec *record, most int) {
	if old := r.of[rec.key]; old != nil {
		r.drop(old)
	}
	o := owner{rec.account, rec.function}
	own := r.owners[o]
	if own == nil {
		own = list.New()
		r.owners[o] = own
	}
	e := &entry{record: rec}
	e.inAll, e.inOwn = r.all.PushFront(e), own.PushFront(e)
	r.of[rec.key], r.latest[rec.line] = e, e
	r.memory += rec.memory()
	if rec.blob != "" {
		if r.blobs[rec.blob]++; r.blobs[rec.blob] == 1 {
			r.disk += rec.onDisk()
		}
	}
	for own.Len() > most {
		r.drop(own.Back().Value.(*entry))
	}
	for r.all.Len() > 0 && (r.memory > r.maxMemory || r.disk > r.maxDisk) {
		r.drop(r.all.Back().Value.(*entry))
	}
}

func (r *records) drop(e *entry) {
	o := owner{e.account, e.function}
	r.all.Remove(e.inAll)
	own := r.owners[o]
	if own.Remove(e.inOwn); own.Len() == 0 {
		delete(r.owners, o)
	}
	delete(r.of, e.key)
	if r.latest[e.line] == e {
		delete(r.latest, e.line)
	}
	r.memory -= e.memory()
	if e.blob != "" {
		if r.blobs[e.blob]--; r.blobs[e.blob] == 0 {
			delete(r.blobs, e.blob)
			r.disk -= e.onDisk()
			r.released = append(r.released, e.blob)
		}
	}
	r.dropped = append(r.dropped, e.record)
}

// forget drops all records of a function, and tells how many there were.
func (r *records) forget(o owner) int {
	own := r.owners[o]
	if own == nil {
		return 0
	}
	n := own.Len()
	for own.Len() > 0 {
		r.drop(own.Back().Value.(*entry))
	}
	return n
}

// remove drops one record, if it is still there.
func (r *records) remove(rec *record) {
	if e := r.of[rec.key]; e != nil && e.record == rec {
		r.drop(e)
	}
}

// count is how many records a function has, and their payloads' bytes.
func (r *records) count(o owner) (n int, bytes int64) {
	own := r.owners[o]
	if own == nil {
		return 0, 0
	}
	for e := own.Front(); e != nil; e = e.Next() {
		bytes += e.Value.(*entry).size
	}
	return own.Len(), bytes
}

// takeDropped are the records that were dropped since the last call, and the
// blobs that none uses any more.
func (r *records) takeDropped() (dropped []*record, blobs []string) {
	dropped, r.dropped = r.dropped, nil
	for _, b := range r.released {
		if r.blobs[b] == 0 { // not taken up again meanwhile
			blobs = append(blobs, b)
		}
	}
	r.released = nil
	return dropped, blobs
}
