package worker

import (
	"encoding/json"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/runtimeapi"
	"github.com/hearth-faas/hearth/runtimeapi/extension"
)

// What is withheld of a run of another account's code (hearth.Function.Shared).
// The caller may not learn the code: not from an error's message or stack trace,
// nor from what it prints. The owner may not learn what the caller put in, so
// that what it prints is not kept for the owner either: it is for nobody.

// withheldMessage is what the caller is told of every failure that the code may
// have worded.
const withheldMessage = "The shared function failed. What it says of that is withheld, since it could show its code: its owner can look into it by the request id."

// withhold replaces what the code of another account says of its failure by its
// type and Hearth's own words. ended says that Hearth ended the run, or saw it
// end: then the type is Hearth's own.
func (c *container) withhold(requestID, errorType string, own []byte, ended bool) (body []byte) {
	switch {
	case ended && errorType == runtimeapi.TypeTimedOut:
		return runtimeapi.TimedOut(requestID, c.f.Timeout).Body
	case ended && errorType == runtimeapi.TypeOutOfMemory:
		return runtimeapi.OutOfMemory(requestID).Body
	}
	var said struct {
		Type string `json:"errorType"`
	}
	if json.Unmarshal(own, &said) == nil && said.Type != "" { // it may be of any form
		errorType = said.Type
	}
	return runtimeapi.NewFunctionError(showableType(errorType), "RequestId: "+requestID+" Error: "+withheldMessage).Body
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

// typeOf is an error's type as it is logged: of code of another account only one
// of Hearth's own, since it could be made of what the caller gave it.
func (c *container) typeOf(t string) string {
	if c.f.Shared == nil || t == "" {
		return t
	}
	switch t {
	case runtimeapi.TypeExit, runtimeapi.TypeOutOfMemory, runtimeapi.TypeTimedOut, runtimeapi.TypeTooLarge, runtimeapi.TypeTruncated,
		runtimeapi.TypeResponseMode, runtimeapi.TypeEntrypoint, runtimeapi.TypeWorkingDir, extension.TypeCrash, extension.TypeInitError,
		extension.TypeExitError, extension.TypeLaunchError:
		return t
	}
	return runtimeapi.TypeFunctionUnknown
}

// networkOf bounds what f's containers may reach; nil does not.
func networkOf(f *hearth.Function) *hearth.NetworkPolicy {
	if f.Shared == nil {
		return nil
	}
	return &f.Shared.Network
}
