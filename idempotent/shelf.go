package idempotent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// recordBucket holds a storedRecord by account, function and key.
const recordBucket = "idempotent-record"

// storedRecord is a record on disk.
type storedRecord struct {
	Line        []byte        `json:"line"`
	States      []State       `json:"states"`
	Request     string        `json:"request"`
	At          time.Time     `json:"at"`
	Ran         time.Duration `json:"ran"` // nanoseconds
	First       bool          `json:"first,omitempty"`
	Version     string        `json:"version"`
	ContentType string        `json:"contentType,omitempty"`
	Payload     []byte        `json:"payload,omitempty"`
	Blob        string        `json:"blob,omitempty"`
	Size        int64         `json:"size"`
}

// shelf keeps the records in memory and, a moment later, on disk: a record that
// a crash loses costs a run. Safe for concurrent use.
type shelf struct {
	store store.Store
	blobs store.Blobs
	log   *slog.Logger

	// writing is held while blobs come and go, so that none is deleted that a
	// record just takes up. Before mu.
	writing sync.Mutex

	flushing sync.Mutex // held while changes go to disk; after writing, before mu

	mu      sync.Mutex
	mem     *records
	pending map[string][]byte // what the disk does not know yet, by key; nil is deleted

	wake chan struct{} // holds one
	stop chan struct{}
	done chan struct{}
}

// maxPending bounds what waits to be written; beyond it a record is kept in
// memory only.
const maxPending = 4096

func openShelf(ctx context.Context, s store.Store, blobs store.Blobs, maxMemory, maxDisk int64, log *slog.Logger) (*shelf, error) {
	h := &shelf{store: s, blobs: blobs, log: log, mem: newRecords(maxMemory, maxDisk), pending: map[string][]byte{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	if err := h.load(ctx); err != nil {
		return nil, err
	}
	go h.write()
	return h, nil
}

// load takes in what there is, the oldest first, and deletes blobs that no
// record uses: a crash may leave some.
func (h *shelf) load(ctx context.Context) error {
	var all []*record
	err := h.store.View(ctx, func(r store.Reader) error {
		all = nil
		for stored, err := range r.Scan(recordBucket, "", "") {
			if err != nil {
				return err
			}
			rec, err := decodeRecord(stored.Key, stored.Value)
			if err != nil {
				h.log.Warn("the record of a result is damaged, and is dropped", "record", stored.Key, "error", err)
				h.pending[stored.Key] = nil
				continue
			}
			all = append(all, rec)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b *record) int { return a.at.Compare(b.at) })
	for _, rec := range all {
		h.mem.put(rec, MaxMaxRecords)
	}
	h.noteDropped()
	for name, err := range h.blobs.All(ctx) {
		if err != nil {
			return err
		}
		if h.mem.blobs[name] == 0 {
			if err := h.blobs.Delete(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func decodeRecord(key string, value []byte) (*record, error) {
	var s storedRecord
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, err
	}
	parts := bytes.Split([]byte(key), []byte("/"))
	if len(parts) != 3 {
		return nil, errors.New("its key has not three parts")
	}
	rec := &record{account: hearth.Account(parts[0]), function: string(parts[1]), states: s.States, request: s.Request, at: s.At, ran: s.Ran, first: s.First,
		result: hearth.Result{Payload: s.Payload, ContentType: s.ContentType, Version: s.Version}, blob: s.Blob, size: s.Size}
	if n, err := hex.Decode(rec.key[:], parts[2][:min(len(parts[2]), 2*len(rec.key))]); err != nil || n != len(rec.key) || len(s.Line) != len(rec.line) {
		return nil, errors.New("its identity is cut")
	}
	copy(rec.line[:], s.Line)
	if s.Blob != "" {
		if err := store.CheckSum(s.Blob); err != nil {
			return nil, err
		}
	} else if int64(len(s.Payload)) != s.Size {
		return nil, errors.New("its payload is cut")
	}
	return rec, nil
}

func (r *record) diskKey() string {
	return string(r.account) + "/" + r.function + "/" + hex.EncodeToString(r.key[:])
}

func (r *record) encode() ([]byte, error) {
	return json.Marshal(storedRecord{Line: r.line[:], States: r.states, Request: r.request, At: r.at.UTC(), Ran: r.ran, First: r.first,
		Version: r.result.Version, ContentType: r.result.ContentType, Payload: r.result.Payload, Blob: r.blob, Size: r.size})
}

// put keeps a record of a result, whose payload it may move into a blob.
func (h *shelf) put(ctx context.Context, rec *record, most int) error {
	rec.size = int64(len(rec.result.Payload))
	h.writing.Lock()
	defer h.writing.Unlock()
	if rec.size > inline {
		digest := sha256.Sum256(rec.result.Payload)
		name := hex.EncodeToString(digest[:])
		if err := h.blobs.Put(ctx, name, bytes.NewReader(rec.result.Payload)); err != nil {
			return err
		}
		rec.blob, rec.result.Payload = name, nil
	}
	value, err := rec.encode()
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.mem.put(rec, most)
	if len(h.pending) < maxPending {
		h.pending[rec.diskKey()] = value
	}
	unused := h.noteDropped()
	h.mu.Unlock()
	h.awake()
	return h.unlink(ctx, unused)
}

// noteDropped notes what the disk is to drop, and returns the blobs that go.
// h.mu is held.
func (h *shelf) noteDropped() (unused []string) {
	dropped, unused := h.mem.takeDropped()
	for _, d := range dropped {
		if h.mem.of[d.key] == nil { // else it was replaced
			h.pending[d.diskKey()] = nil
		}
	}
	return unused
}

// unlink deletes blobs. h.writing is held.
func (h *shelf) unlink(ctx context.Context, blobs []string) error {
	var errs []error
	for _, b := range blobs {
		errs = append(errs, h.blobs.Delete(context.WithoutCancel(ctx), b))
	}
	return errors.Join(errs...)
}

// get is the record of a key, and the last of its line to compare with.
func (h *shelf) get(line, key sum, ttl time.Duration, now time.Time) (found, last *record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mem.get(key, ttl, now), h.mem.last(line)
}

// result is what a record keeps; it is the caller's own, but for the payload's
// bytes. A record whose blob is gone is dropped.
func (h *shelf) result(ctx context.Context, rec *record) (*hearth.Result, error) {
	res := rec.result
	if rec.blob == "" {
		return &res, nil
	}
	b, size, err := h.blobs.Open(ctx, rec.blob)
	if err == nil {
		defer b.Close() // only read
		res.Payload = make([]byte, size)
		_, err = io.ReadFull(b, res.Payload)
	}
	if err == nil {
		if digest := sha256.Sum256(res.Payload); hex.EncodeToString(digest[:]) != rec.blob {
			err = store.ErrHash
		}
	}
	if err != nil {
		h.mu.Lock()
		h.mem.remove(rec)
		h.noteDropped() // the blob is what is wrong: it goes at the next start
		h.mu.Unlock()
		h.awake()
		return nil, fmt.Errorf("the result of %s: %w", rec.request, err)
	}
	return &res, nil
}

// forget drops all records of a function, also on disk, and tells how many
// there were.
func (h *shelf) forget(ctx context.Context, o owner) (int, error) {
	h.writing.Lock()
	defer h.writing.Unlock()
	h.mu.Lock()
	n := h.mem.forget(o)
	unused := h.noteDropped()
	h.mu.Unlock()
	return n, errors.Join(h.unlink(ctx, unused), h.flush(ctx))
}

func (h *shelf) count(o owner) (n int, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mem.count(o)
}

// totals are what all records take.
func (h *shelf) totals() (n int, memory, disk int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.mem.of), h.mem.memory, h.mem.disk
}

func (h *shelf) awake() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// write brings what is pending to disk until the shelf is closed.
func (h *shelf) write() {
	defer close(h.done)
	for {
		select {
		case <-h.wake:
		case <-h.stop:
			return
		}
		if err := h.flush(context.Background()); err != nil {
			h.log.Warn("records of results could not be written; they are lost with this process", "error", err)
		}
	}
}

func (h *shelf) flush(ctx context.Context) error {
	h.flushing.Lock() // so that no change is overtaken by one that came before it
	defer h.flushing.Unlock()
	h.mu.Lock()
	changes := h.pending
	h.pending = map[string][]byte{}
	h.mu.Unlock()
	if len(changes) == 0 {
		return nil
	}
	return h.store.Update(ctx, func(tx store.Tx) error {
		for key, value := range changes {
			var err error
			if value == nil {
				err = tx.Delete(recordBucket, key)
			} else {
				err = tx.Put(recordBucket, key, value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// close writes what is pending.
func (h *shelf) close() error {
	close(h.stop)
	<-h.done
	return h.flush(context.Background())
}
