// Package apigateway is API Gateway's HTTP and WebSocket APIs: what they are made of, and how
// they are served.
//
// An API has routes (METHOD /path), integrations (what answers: a function or
// an HTTP server), authorizers (who may call) and stages. A stage shows a
// deployment: the routes as they were when it was made, or with autoDeploy as
// they are. The resources are written to the store before they are answered;
// each change makes a new routing table (table.go), which takes the place of
// the one before in one step, so that a request is served by the one or by the
// other and never fails for it.
//
// A request comes by a host name, <id>.execute-api.<region>.localhost, by a
// path below /execute-api/<id>/ for clients that cannot resolve that, or by a
// host name of an account's own (domains.go). The rest is serve.go: find the
// stage and the route, bound the rate, find out who calls (authorize.go), make
// the event (payload.go) and run the function (invoke.go), or hand the request
// on (forward.go).
//
// A WebSocket API has the same parts. Its routes are names: $connect, $disconnect
// and what messages say (socket.go); sockets.go keeps the connections that are
// open, and connections.go is how others speak to them.
//
// Package wire is the control plane as the service's clients see it.
package apigateway
