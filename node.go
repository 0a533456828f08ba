package hearth

import "context"

// Node is one machine's capacity: a manager with its worker. The server has
// one in its own process; others have joined it, and are the same over the
// network (package node). Safe for concurrent use.
type Node interface {
	// Invoke runs inv, whose Function is set, and fills in its Placement,
	// Timeline and Use. An error of kind NodeGone means that the node is not
	// there any more and the function has not seen the event, so that another
	// node may be tried.
	Invoker
	// Prepare brings f's code to the node.
	Prepare(ctx context.Context, f *Function) error
	// Overtake has now ready on the node before it replaces old there, and
	// Ahead before an alias gives it that share of old's invocations. Both
	// return when that is done or cannot be.
	Overtake(ctx context.Context, old, now *Function)
	Ahead(ctx context.Context, old, now *Function, share float64)
	// Changed tells the node that old was replaced by now; nil is that there
	// was none, or is none any more.
	Changed(old, now *Function)
	// PolicyChanged tells the node that another execution policy is in force
	// for a function, or with "" for all of the account's.
	PolicyChanged(account Account, function string)
	// Renew has no container serve that was given its credentials before: what
	// they were made with is replaced, and they end soon.
	Renew()
}
