// Package telemetry serves the Lambda Telemetry API, version 2022-07-01, and
// the Logs API before it, version 2020-08-15: extensions subscribe to what a
// function and its extensions write and to what the platform says about them.
//
// A [Hub] belongs to one execution environment. Events are published to it and
// never wait: each subscriber has a queue of bounded size, from which one
// goroutine delivers batches to a port inside the environment, tries again
// with a growing pause when that fails, and counts what did not fit. While the
// environment is frozen nothing is delivered.
package telemetry
