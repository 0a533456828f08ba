// Package proxy gives resources, such as devices and backends, a plain HTTP API
// whose work is done by functions of a code execution service elsewhere.
//
// A Resource has a state, a JSON object, and a revision that counts its changes.
// An API says for which resource, or which type of them, it is; by which
// methods and which path it is called; and, in its mapping definition, which
// function is run, how a request becomes that function's event, how what it
// returns becomes the response, and what of it changes the resource's state.
// The mapping is data: expressions that are checked when it is stored.
//
// A call goes one way:
//
//	request ─▶ route ─▶ authenticate ─▶ throttle ─▶ decode ─▶ map ─▶ cache
//	  ─▶ second request, over the network, to the Lambda API ─▶ state ─▶ map ─▶ response
//
// Routes are one immutable table behind a pointer, so that a call holds the
// definition with which it began to its end, and a change takes no call down.
// States are in memory and in the store: a change is on disk before it is
// answered.
package proxy
