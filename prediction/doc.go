// Package prediction foretells invocations, and has the manager make ready for
// them.
//
// It learns two things. What a function is likely to call while it runs (S11):
// an invocation that comes from inside a container, or carries the tag of an
// earlier one in its trace header, is linked to the run that caused it, whether
// it comes at once, from the queue of asynchronous invocations, or from a
// service outside that hands the tag on. And how many invocations follow a
// notice from outside, or a run of another function (S15).
//
// Nothing is ever linked across accounts, and what carries no evidence of its
// cause is not guessed at.
//
// The deciders (Profile, Response) are pure over the times that they are shown.
// Predictor feeds them, off the path of invocations: Arrived puts an
// observation into a ring, without a lock or an allocation, and one goroutine
// takes it from there. When that falls behind observations are dropped, which
// costs only what would have been learned from them.
package prediction
