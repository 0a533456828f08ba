// Package bus is an event bus in EventBridge's manner: buses of an account,
// rules on them that say by an event pattern which events they want, or by a
// schedule when there is one, and targets to which what fits is delivered.
//
// An event is matched when it is put. What it comes to, a delivery for each
// target of each rule that it fits, is on disk before the caller is told that
// it was accepted; package delivery does the rest. Rules are read from the
// store, with a counter of their changes, so that several servers on one store
// have the same.
package bus
