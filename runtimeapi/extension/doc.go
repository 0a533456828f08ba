// Package extension serves the Lambda Extensions API, version 2020-01-01,
// beside the runtime API of one execution environment.
//
// A [Set] knows the environment's extensions: the external ones, which the
// worker starts as processes and names to [Set.Expect], and the internal ones,
// which register from within the runtime's process. It says when the phases of
// the environment's life are over: init when the runtime and every extension
// asked for an event, an invocation when the runtime and those that have its
// event asked for the next one.
//
// What extensions do to processes (a crash, the time that a shutdown may take)
// is the worker's business: it tells the Set, and asks it.
package extension
