// Package wire is SQS as its clients see it: the operations of the API, in the
// JSON 1.0 protocol that current SDKs speak and in the query protocol that
// older ones do. What queues do is package sqs's.
package wire
