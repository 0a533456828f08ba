// Package sqs is queues as Amazon SQS has them, kept in a store.Store:
// standard and FIFO queues, visibility timeouts, delays, long polls, dead
// letters. sqs/wire is SQS as its clients see it; here is what it does, and
// the way in for Hearth's own parts, which need no HTTP.
//
// What is acknowledged is on disk: a message before Send returns, a receipt
// (with its count and its visibility timeout) before Receive does, a deletion
// before Delete does. So a kill loses no message, and gives nobody a message
// early.
//
// In memory there is one small entry for each message (about 150 bytes), and a
// bounded cache of bodies; bodies are on disk. Nothing is searched: what
// becomes visible or too old next is at the head of a heap, and who waits for
// a message is woken by it.
//
// Locks: a queue has one, which is not held over the store, and no two queues'
// are held at once. Under it the order of writes is fixed: the journal commits
// them in that order, many callers' with one fsync.
package sqs
