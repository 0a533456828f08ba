package durable

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// What is on disk. An execution's key is ACCOUNT/FUNCTION/ID; what belongs to
// it is under KEY/NUMBER, in hexadecimal so that the order of keys is that of
// numbers.
const (
	bucketExecutions = "durableExecutions"      // key → record
	bucketOperations = "durableOperations"      // key/sequence → Operation
	bucketEvents     = "durableEvents"          // key/id → Event
	bucketNames      = "durableExecutionNames"  // ACCOUNT/FUNCTION/NAME → key
	bucketRunning    = "durableRunning"         // key → sleeper: those that have not ended
	bucketEnded      = "durableExecutionsEnded" // second at which it is forgotten/key → nothing
)

// sleeper is what must be known of an execution that has not ended while it
// waits.
type sleeper struct {
	Version string    `json:"version"`
	Due     time.Time `json:"due"` // when something happens by itself
	// Attention: something was under way that only this process knows of, an
	// invocation or the call of another function, or is to be begun.
	Attention bool `json:"attention,omitempty"`
}

func (c *change) sleeper() sleeper {
	r := &c.record
	s := sleeper{Version: r.Version, Due: c.due(), Attention: r.Invocation != nil || r.Changes > r.Seen}
	for o := range c.all {
		s.Attention = s.Attention || o.Type == TypeChainedInvoke && o.Status == Started
	}
	return s
}

func numbered(key string, n int) string { return fmt.Sprintf("%s/%08x", key, n) }

func nameKey(account hearth.Account, function, name string) string {
	return string(account) + "/" + function + "/" + name
}

func endedKey(r *record) string { return fmt.Sprintf("%012d/%s", r.expires().Unix(), r.key()) }

func put(tx store.Tx, bucket, key string, v any) error {
	return tx.Put(bucket, key, encode(v))
}

func get[T any](r store.Reader, bucket, key string) (*T, error) {
	b, ok, err := r.Get(bucket, key)
	if err != nil || !ok {
		return nil, err
	}
	return decode[T](bucket, key, b)
}

func decode[T any](bucket, key string, b []byte) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("the record %s of %s is damaged: %w", key, bucket, err)
	}
	return v, nil
}

func findName(r store.Reader, account hearth.Account, function, name string) (*record, error) {
	k, ok, err := r.Get(bucketNames, nameKey(account, function, name))
	if err != nil || !ok {
		return nil, err
	}
	return get[record](r, bucketExecutions, string(k))
}

// save writes a change and those of its children.
func save(tx store.Tx, c *change) error {
	for _, child := range c.children {
		if err := save(tx, child); err != nil {
			return err
		}
	}
	r := &c.record
	k := r.key()
	for _, o := range c.changed {
		if err := put(tx, bucketOperations, numbered(k, o.Sequence), o); err != nil {
			return err
		}
	}
	for i := range c.events {
		if err := put(tx, bucketEvents, numbered(k, c.events[i].ID), &c.events[i]); err != nil {
			return err
		}
	}
	if c.x.Operations == 0 { // it is new
		if err := tx.Put(bucketNames, nameKey(r.Account, r.Function, r.Name), []byte(k)); err != nil {
			return err
		}
	}
	if r.Status == Running {
		if err := put(tx, bucketRunning, k, c.sleeper()); err != nil {
			return err
		}
	}
	if c.ended {
		if err := tx.Delete(bucketRunning, k); err != nil {
			return err
		}
		if err := tx.Put(bucketEnded, endedKey(r), []byte{}); err != nil {
			return err
		}
	}
	return put(tx, bucketExecutions, k, r)
}

// load reads an execution whole; nil if there is none.
func load(r store.Reader, key string) (*execution, error) {
	rec, err := get[record](r, bucketExecutions, key)
	if err != nil || rec == nil {
		return nil, err
	}
	operations := make([]*Operation, 0, rec.Operations)
	for item, err := range r.Scan(bucketOperations, key+"/", "") {
		if err != nil {
			return nil, err
		}
		o, err := decode[Operation](bucketOperations, item.Key, item.Value)
		if err != nil {
			return nil, err
		}
		operations = append(operations, o)
	}
	if len(operations) != rec.Operations {
		return nil, fmt.Errorf("the execution %s has %d operations, not %d", key, len(operations), rec.Operations)
	}
	return newExecution(*rec, operations), nil
}

// forget removes all there is of an ended execution.
func forget(tx store.Tx, r *record) error {
	k := r.key()
	for n := range r.Operations {
		if err := tx.Delete(bucketOperations, numbered(k, n)); err != nil {
			return err
		}
	}
	for n := range r.Events {
		if err := tx.Delete(bucketEvents, numbered(k, n+1)); err != nil {
			return err
		}
	}
	for bucket, key := range map[string]string{
		bucketNames: nameKey(r.Account, r.Function, r.Name), bucketRunning: k, bucketEnded: endedKey(r), bucketExecutions: k,
	} {
		if err := tx.Delete(bucket, key); err != nil {
			return err
		}
	}
	return nil
}

// keyOfEnded is the execution's key in one of bucketEnded's.
func keyOfEnded(s string) string {
	_, k, _ := strings.Cut(s, "/")
	return k
}
