package lambda

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/awsjson"
)

// maxNeighbour bounds a request to a neighbour, in bytes: a batch of messages
// in base64, or in a form.
const maxNeighbour = 8 << 20

// carriers are the operations of neighbours that carry messages, not settings:
// they are no requests of the control plane, as invocations are none. What
// bounds them is the disk and the queues' own limits.
var carriers = map[string]bool{
	"SendMessage": true, "SendMessageBatch": true, "ReceiveMessage": true, "DeleteMessage": true, "DeleteMessageBatch": true,
	"ChangeMessageVisibility": true, "ChangeMessageVisibilityBatch": true, "PutEvents": true,
}

// neighbourOperation is the name of the operation that a request is for, "" if
// it stands in the path.
func neighbourOperation(r *http.Request, body []byte) string {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		return target[strings.LastIndexByte(target, '.')+1:]
	}
	if name := r.URL.Query().Get("Action"); name != "" {
		return name
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return ""
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return "" // the service says what is wrong with it
	}
	return form.Get("Action")
}

// serveNeighbour reads a request for a service that answers for itself, and
// checks its signature.
func (h *Handler) serveNeighbour(w http.ResponseWriter, c *call, n awsjson.Handler) {
	r := c.http
	body, err := readBody(r, maxNeighbour, c.claim.Service)
	if err == nil {
		err = h.verifier.Check(&c.claim, r, body)
	}
	if name := neighbourOperation(r, body); err == nil && !carriers[name] {
		err = h.admit(c, c.claim.Service+"."+name)
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
