// Package poll reads event sources and invokes functions with what is read:
// it gathers records into batches, filters them, invokes, tries again what
// failed, parks what cannot be processed, and follows the rate of the source
// without being told how.
//
// A source is a Queue, whose records are taken and each acknowledged or given
// back, or a Stream, whose shards are read in order from a position on. What
// is common to all sources is here; a source itself only takes and gives back.
// Every record is processed at least once, or parked: a record is acknowledged,
// or a position passed, only after that.
package poll

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"github.com/hearth-faas/hearth/event"
)

// Record is one record of a source. The framework does not change it.
type Record struct {
	// ID is the same whenever the same record is taken, and no other record of
	// the source has it. It is what a function names in batchItemFailures.
	ID string
	// Body is the record as it stands in the event: a JSON value.
	Body json.RawMessage
	// Group orders: records of one group are processed in the order in which
	// they were taken. It is a queue's message group, or the key within a
	// stream's shard; "" in a queue has no order. A queue gives no record of a
	// group while an earlier batch of that group is held.
	Group string
	// Position is how far a shard has been read with this record; only of
	// streams. Only the source knows what is in it.
	Position string
	// Sent is when the source got the record; zero is not known. Its age is
	// counted from then.
	Sent time.Time
	// Taken is when it came out of the source; zero is when Take or Read
	// returned. A source that fetches ahead sets it.
	Taken time.Time
	// Receives is how often the source has given this record, this time
	// included; 0 is not known.
	Receives int
	// Handle is the source's own, such as a receipt or a delivery tag.
	Handle any
}

// Source is what all sources have. Its methods are safe for concurrent use.
type Source interface {
	// Event is what a function is invoked with for the records, of which there
	// is one at least: a JSON object.
	Event(records []*Record) ([]byte, error)
	// View is the JSON that a record's filters are matched against: its Body,
	// with what is text there and JSON inside put in as JSON. It is called only
	// if there are filters.
	View(r *Record) []byte
	// Close lets go of the source. What is held and was neither acknowledged nor
	// released must come again, by the source's own means.
	Close() error
}

// Queue is a source whose records are taken one by one, in no order or in that
// of their groups. One goroutine at a time calls Take, unless Traits.Parallel;
// any number call the rest.
//
// Errors may pass; the framework waits and calls again: after one of Take it
// does so as long as anything that was taken is at work, and then opens the
// source anew. A Queue that cannot be mended, such as one whose connection was
// what it held records by, has the same error each time. One that cannot pass
// (no such queue, wrong password) should say in a sentence what is wrong, since
// it becomes the mapping's LastProcessingResult.
type Queue interface {
	Source
	// Take takes from one to most records, as soon as there is any. If there is
	// none within wait it returns none and no error; a wait of 0 takes what is
	// there now. It takes no more once they are MaxEvent bytes. It returns early
	// when ctx ends; records that it has taken by then it returns nevertheless,
	// or gives back.
	Take(ctx context.Context, most int, wait time.Duration) ([]*Record, error)
	// Ack removes records for good. An error means that they may come again.
	Ack(ctx context.Context, records []*Record) error
	// Release gives back records that were not processed, for the reason given.
	// They come again.
	Release(ctx context.Context, records []*Record, why Reason) error
	// Extend keeps records held for another Traits.Hold. Where Hold is 0 it is
	// not called.
	Extend(ctx context.Context, records []*Record) error
	// Traits are the same at every call.
	Traits() Traits
}

// Traits are what kind of queue a Queue is.
type Traits struct {
	// Redelivers: the source itself counts how often a record was taken, waits
	// between, and knows what to do with one that fails again and again. Failed
	// records are released to it. Without it the framework keeps failed records
	// held, tries them again itself, and parks them in the end.
	Redelivers bool
	// Hold is how long a taken record is kept from others, unless Extend is
	// called; 0 is until it is acknowledged or released, or Close.
	Hold time.Duration
	// Parallel: several goroutines may call Take at once, and each is given
	// something, as with a server some way off that takes long to answer. They
	// are never given records of one group at once.
	Parallel bool
}

// Reason is why records are given back.
type Reason int

// The reasons.
const (
	// Failed: the function failed with them.
	Failed Reason = iota
	// Unused: nothing was run with them. They should come again at once, and the
	// attempt not count, if the source can tell.
	Unused
)

// Stream is a source of shards, each an ordered log.
type Stream interface {
	Source
	// Shards lists the shards that there are now. It is called again now and
	// then: one that is new is read, one that is gone no more.
	Shards(ctx context.Context) ([]Shard, error)
	// Open reads a shard from after the position on. "" is where the mapping
	// says that reading begins (Mapping.From), or where the source knows that
	// the mapping had got to.
	Open(ctx context.Context, shard, after string) (Reader, error)
}

// Resharder is a Stream that knows when Shards has something else to say than
// before, such as a member of a group that was assigned other partitions. The
// channel is of one: it is received from, and the shards listed.
type Resharder interface {
	Resharded() <-chan struct{}
}

// Shard is a part of a stream that is read in order.
type Shard struct {
	ID string // such as "orders-0" of a Kafka topic's partition
}

// Reader reads one shard. One goroutine at a time calls Read, another Commit.
type Reader interface {
	// Read returns from one to most records, in order, as soon as there is any,
	// and no more once they are MaxEvent bytes; none and no error if there is none within wait; ErrEnd once there will
	// never be any; ErrGone if what the position names is not kept any more, or
	// the shard is not this reader's any more, and has to be opened anew.
	Read(ctx context.Context, most int, wait time.Duration) ([]*Record, error)
	// Commit is told, after that is on disk here, that everything up to and with
	// the position has been dealt with: for sources that keep that too, or that
	// keep records until then. An error is logged, and the next position told.
	Commit(ctx context.Context, position string) error
	// Close ends the reading. Nothing is called after it.
	Close() error
}

// Errors of Readers.
var (
	ErrEnd  = errors.New("the shard has ended")
	ErrGone = errors.New("the position cannot be read from any more")
)

// Identifier is a Source whose functions name failed records by something else
// than a string, such as Kafka's {"partition": "orders-0", "offset": 7}.
type Identifier interface {
	// Identify is the ID of the record that an itemIdentifier means; "" is of
	// none.
	Identify(item json.RawMessage) string
}

// Describer is a Source that has a word of its own for what failed, in the
// record that an on-failure destination is sent, such as KinesisBatchInfo.
type Describer interface {
	Describe(shard string, records []*Record) (name string, info any)
}

// Place is where the source of a mapping is, and how one gets in.
type Place struct {
	// URL is that of the registered source that the mapping names, without a
	// password; nil if it names none.
	URL *url.URL
	// Secret is what was registered with it: a password, or JSON such as
	// {"username": "u", "password": "p"}; see Login. nil is none.
	Secret []byte
	// Lookup is the secret that a SourceAccessConfiguration's URI means. It has
	// an error that says what is missing if there is none.
	Lookup func(uri string) ([]byte, error)
}

// Opener opens the sources of one kind, or of one scheme of URLs. What it
// returns is a Queue or a Stream. It is called again, after a while, when it
// returned an error. ctx is for the opening only: the source lasts until Close.
type Opener interface {
	Open(ctx context.Context, m *event.Mapping, at Place) (Source, error)
}

// Forgetter is an Opener of sources that keep something for a mapping where they
// are, such as a consumer group or a replication slot. Forget removes it, once
// the mapping is gone for good and nothing reads it.
type Forgetter interface {
	Forget(ctx context.Context, m *event.Mapping, at Place) error
}

// OpenerFunc is a function as an Opener.
type OpenerFunc func(ctx context.Context, m *event.Mapping, at Place) (Source, error)

// Open calls f.
func (f OpenerFunc) Open(ctx context.Context, m *event.Mapping, at Place) (Source, error) {
	return f(ctx, m, at)
}
