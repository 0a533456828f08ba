package lambda

import (
	"net"
	"net/http"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/awsjson"
)

// maxNeighbour bounds a request to a neighbour, in bytes: a batch of messages
// in base64, or in a form.
const maxNeighbour = 8 << 20

// serveNeighbour reads a request for a service that answers for itself, and
// checks its signature.
func (h *Handler) serveNeighbour(w http.ResponseWriter, c *call, n awsjson.Handler) {
	r := c.http
	body, err := readBody(r, maxNeighbour, c.claim.Service)
	if err == nil {
		err = h.verifier.Check(&c.claim, r, body)
	}
	if err == nil {
		err = h.mayAsk(c, body)
	}
	if err != nil {
		h.refuse(w, c, protocolOf(r), err)
		return
	}
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		ip = "" // not of a network
	}
	w.Header().Set("X-Amzn-RequestId", c.requestID)
	err = n.Serve(w, &awsjson.Request{Caller: c.claim.Identity, SourceIP: ip, RequestID: c.requestID, HTTP: r, Body: body})
	// Neighbours have kinds of their own, which Hearth's table of statuses does
	// not: what is not the server's fault is known by them.
	if hearth.KindOf(err) == hearth.Service && c.ctx.Err() == nil {
		logError(h.Log, c.requestID, c.claim.Service, err)
	}
}
