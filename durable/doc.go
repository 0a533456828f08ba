// Package durable keeps durable executions: invocations of a function that
// may last for a year, because what the function has done is kept as it goes.
//
// The function runs, and says with checkpoints what it did and what it waits
// for: a time, the next attempt of a step, a callback, another function. When
// it has nothing to do but wait it returns, and its environment serves others.
// When something that it waits for has happened it is invoked again, is told
// all that was done, and goes on from there.
//
// Decisions are made by change, which knows neither store nor clock nor
// goroutines: given an execution, a time and what happened, it says what is
// so afterwards. Executions carries them out: each change is one transaction,
// and is acknowledged when it is on disk, so that an execution goes on after
// any end of the process. What was not acknowledged may happen twice: an
// invocation that was lost is made again, and so is a call of a function that
// is not durable.
//
// An execution that only waits takes a few hundred bytes of memory: its
// operations are read when it is touched, and forgotten when its function
// has returned.
//
// Order of locks: live.mu, then Executions.mu. No two live.mu are held at a
// time: what concerns another execution is done after the first is let go.
package durable
