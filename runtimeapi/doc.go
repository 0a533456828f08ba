// Package runtimeapi serves what a function's runtime sees: the Lambda
// Runtime API, version 2018-06-01, on the listener of one container.
//
// An [Environment] is one execution environment as its runtime knows it. The
// runtime asks for the next event by a long poll, and posts a response or an
// error; the worker calls [Environment.Invoke] and gets that back. Every warm
// invocation costs two HTTP requests here, so the server is a small one of its
// own, directly on the connection (http.go, body.go): net/http spends several
// times as much on each request, and copies each payload twice.
//
// # How an event changes hands
//
// A connection whose "next" found no event is parked: it is put on a list, and
// its goroutine goes on to read the next request, where it would notice at
// once that the runtime hung up. Invoke takes a parked connection off the list
// and writes the event to it from the caller's own goroutine, so that nobody
// has to be woken on the way in. On the way out the connection's goroutine
// hands the response over before it answers the runtime.
//
// # Locks
//
// Environment.mu guards the state, the current invocation and the lists of
// connections. conn.writing serializes answers on one connection; it may be
// taken while mu is held, and mu is never taken while it is held.
package runtimeapi
