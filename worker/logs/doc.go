// Package logs keeps what functions write and what the platform says about
// their invocations: the lines that CloudWatch Logs would show.
//
// A [Sink] takes one container's output from its pipe, makes events of it
// (frames.go) and puts the platform's own lines between them (lines.go). A
// [Store] keeps events in groups and streams on disk (segment.go, store.go)
// and finds them again (read.go, pattern.go).
//
// # The way of an event
//
// Appending copies the event into a queue in memory and returns; one goroutine
// writes the queue to disk, a batch at a time. A reader first has the queue
// written, so that it sees everything that was appended before. The queue is
// bounded: when the disk is slower than the functions, an append waits for a
// moment, then drops the event and counts it, and the stream says how many were
// dropped. A crash of the process loses at most flushAfter of events, a crash
// of the machine what its kernel had not written yet.
//
// # Locks
//
// Sink.mu is taken before Store.queue.mu; Store.disk is taken by the writer and
// by readers, never together with either. From Begin until it is known what is
// on disk, Store.disk is held.
package logs
