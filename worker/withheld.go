package worker

import (
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimeapi"
)

// What is withheld of a run of another account's code (hearth.Function.Shared).
// The caller may not learn the code: not from an error's message or stack trace,
// nor from what it prints. The owner may not learn what the caller put in, so
// that what it prints is not kept for the owner either: it is for nobody.

// withheldMessage is what the caller is told of every failure that the code may
// have worded.
const withheldMessage = "The shared function failed. What it says of that is withheld, since it could show its code."

// withhold replaces what the code of another account says of its failure by its
// type and Hearth's own words. ended says that Hearth ended the run, or saw it
// end: then the type is Hearth's own.
func (c *container) withhold(requestID, errorType string, ended bool) (shownType string, body []byte) {
	shownType = showableType(errorType)
	switch {
	case ended && shownType == runtimeapi.TypeTimedOut:
		return shownType, runtimeapi.TimedOut(requestID, c.f.Timeout).Body
	case ended && shownType == runtimeapi.TypeOutOfMemory:
		return shownType, runtimeapi.OutOfMemory(requestID).Body
	}
	return shownType, runtimeapi.NewFunctionError(shownType, "RequestId: "+requestID+" Error: "+withheldMessage).Body
}

// showableType is an error's type as far as it is one: a name, of a length that
// no code fits into.
func showableType(t string) string {
	const longest = 64
	if t == "" || len(t) > longest || strings.Trim(t, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._") != "" {
		return runtimeapi.TypeFunctionUnknown
	}
	return t
}

// reasonOf is why an environment failed as its log tells it.
func (c *container) reasonOf(reason string) string {
	if c.f.Shared == nil {
		return reason
	}
	return withheldMessage
}

// typeOf is an error's type as the log tells it.
func (c *container) typeOf(t string) string {
	if c.f.Shared == nil || t == "" {
		return t
	}
	return showableType(t)
}

// networkOf bounds what f's containers may reach; nil does not.
func networkOf(f *hearth.Function) *hearth.NetworkPolicy {
	if f.Shared == nil {
		return nil
	}
	return &f.Shared.Network
}
