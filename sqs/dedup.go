package sqs

import (
	"crypto/sha256"
	"encoding/hex"
)

// dedupFor is how long a deduplication id is remembered, in milliseconds.
const dedupFor = 5 * 60 * 1000

// dedupEntry is a deduplication id that was used.
type dedupEntry struct {
	dedup
	key string
	// stored is closed when the message that it came with is on disk, or
	// failed to get there; then err tells.
	stored chan struct{}
	err    error
}

var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// dedupKey is what a deduplication id is remembered by: group is "" unless
// that is the scope. Its length is that of all such keys.
func dedupKey(group, id string) string {
	sum := sha256.Sum256([]byte(group + "\x00" + id))
	return hex.EncodeToString(sum[:16])
}

// remember notes a deduplication id; those that expire later follow.
func (q *queue) remember(e *dedupEntry) {
	q.dedups[e.key] = e
	q.fading = append(q.fading, e)
}

// forget removes one that has expired.
func (q *queue) forget(e *dedupEntry) {
	if q.dedups[e.key] != e {
		return
	}
	delete(q.dedups, e.key)
	q.s.journal.add([]write{{dedupBucket, q.id + e.key, nil}}, q.s.logged("an expired deduplication id could not be removed"))
}
