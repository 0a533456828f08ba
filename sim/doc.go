// Package sim replays recorded traffic in simulated time, through the decider
// that keeps containers in a running Hearth and through others to compare it
// with.
//
// What decides is the very type that decides live, manager.IdleLife over
// manager.IdleHistory, fed with the same events. What it decides about is not
// the manager but a model of its pools: a single queue of events instead of
// goroutines, so that a replay is fast and comes out the same each time. A
// test replays traffic through both, and they agree.
package sim
