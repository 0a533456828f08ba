package frontend

import (
	"context"
	"errors"
	"strings"

	"github.com/hearth-faas/hearth"
)

// Shares lets in runs of code that another account shares with the caller's
// (hearth.Function.Shared). Safe for concurrent use.
type Shares interface {
	// Enter lets inv run, or tells why not. It may set inv.Function to a newer one
	// of the same name. Leave follows once when the run has ended, with what it
	// used.
	Enter(ctx context.Context, inv *hearth.Invocation) error
	Leave(inv *hearth.Invocation)
}

// notLetIn is why a run of another account's code was refused.
const notLetIn = "the shared function's owner or its terms do not let it in"

// placeShared has another account's code run. A run that was let in runs to its
// end, whatever the owner does meanwhile.
func (f *Frontend) placeShared(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	if f.shares == nil {
		return nil, refusal(inv, hearth.AccessDenied, "Nothing is shared here.")
	}
	if err := f.shares.Enter(ctx, inv); err != nil {
		inv.Placement.Why = notLetIn
		return nil, err
	}
	defer f.shares.Leave(inv)
	r, err := f.manager.Invoke(ctx, inv)
	return r, withheld(inv, err)
}

// withheld is an error without what it may tell the caller of the owner's code,
// such as its paths, its image or its packages.
func withheld(inv *hearth.Invocation, err error) error {
	switch kind := hearth.KindOf(err); kind {
	case "", hearth.TooManyRequests, hearth.Canceled:
		return err
	default:
		e := refusal(inv, kind, "The shared function could not be run. Why is withheld, since it could show its code: tell its owner the request id "+inv.RequestID+".")
		e.Err = err
		inv.Placement.Withheld = forOwner(inv.Function, err)
		return e
	}
}

// forOwner is what the owner of the code would have been told, had it run it
// itself.
func forOwner(f *hearth.Function, err error) string {
	e, ok := errors.AsType[*hearth.Error](err)
	if !ok {
		return "An internal error occurred."
	}
	own := hearth.Function{Account: f.Shared.Owner, Region: f.Region, Name: f.Shared.OwnerFunction, Version: f.Shared.OwnerVersion}
	return strings.NewReplacer(f.QualifiedARN(), own.QualifiedARN(), f.ARN(), own.ARN()).Replace(e.Message)
}

// termsOf is what a run of another account's code is let in by.
func termsOf(s *hearth.Shared) string {
	if s.API != "" {
		return "task " + s.Task + " of the API " + s.API + " at " + s.Stage
	}
	return "offer " + s.Offer
}

// checkShared refuses what a caller can't ask of another account's code.
func checkShared(inv *hearth.Invocation) error {
	switch {
	case inv.RequireCode != "":
		return refusal(inv, hearth.InvalidParameter, "The code of a shared function is its owner's: an invocation can't require which it is.")
	case inv.MemoryMiB != 0:
		return refusal(inv, hearth.InvalidParameter, "The memory of a shared function is that of its alias, within its owner's bounds: an invocation can't ask for more.")
	}
	return nil
}
