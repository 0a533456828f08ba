package lambda

import (
	"net/http"
	"net/url"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/awsjson"
)

// maxNeighbour bounds a request to a neighbour, in bytes: a batch of messages
// in base64, or in a form.
const maxNeighbour = 8 << 20

// operationNamer is a neighbour whose operations are methods and paths, and that
// knows their names.
type operationNamer interface {
	OperationOf(r *http.Request) string
}

// neighbourOperation is the operation of a request: those of the query protocol
// have it in a form.
func neighbourOperation(n awsjson.Handler, r *http.Request, body []byte) string {
	if named, ok := n.(operationNamer); ok {
		if name := named.OperationOf(r); name != "" {
			return name
		}
	}
	if r.Header.Get("X-Amz-Target") == "" && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		if form, err := url.ParseQuery(string(body)); err == nil {
			return operationOf(r, form)
		}
	}
	return operationOf(r, nil)
}

// carriers are the operations of neighbours that carry messages, not settings:
// they are no requests of the control plane, as invocations are none. What
// bounds them is the disk and the queues' own limits.
var carriers = map[string]bool{
	"SendMessage": true, "SendMessageBatch": true, "ReceiveMessage": true, "DeleteMessage": true, "DeleteMessageBatch": true,
	"ChangeMessageVisibility": true, "ChangeMessageVisibilityBatch": true, "PutEvents": true,
}

// serveNeighbour reads a request for a service that answers for itself, and
// checks its signature.
func (h *Handler) serveNeighbour(w http.ResponseWriter, c *call, n awsjson.Handler) {
	r := c.http
	body, err := readBody(r, maxNeighbour, c.claim.Service)
	if err == nil {
		err = h.verifier.Check(&c.claim, r, body)
	}
	if err != nil {
		h.refuse(w, c, protocolOf(r), err)
		return
	}
	name := neighbourOperation(n, r, body)
	h.begin(c, c.claim.Service, name)
	var answer *held
	if !carriers[name] {
		err = h.admit(c, c.claim.Service+"."+name)
	}
	if err == nil {
		err = h.mayAsk(c, body)
	}
	if c.record != nil {
		if named, ok := n.(operationNamer); ok && named.OperationOf(r) != "" {
			c.record.event.Resource = strings.Trim(r.URL.Path, "/")
		}
		c.record.params.JSON(body)
		answer = &held{ResponseWriter: w}
	}
	if err == nil {
		err = h.mayChange(c)
	}
	if err != nil {
		h.refuse(w, c, protocolOf(r), h.ended(c, err))
		return
	}
	client := w
	if answer != nil {
		w = answer
	}
	w.Header().Set("X-Amzn-RequestId", c.requestID)
	err = n.Serve(w, &awsjson.Request{Caller: c.claim.Identity, RequestID: c.requestID, HTTP: r, Body: body})
	// Neighbours have kinds of their own, which Hearth's table of statuses does
	// not: what is not the server's fault is known by them.
	if hearth.KindOf(err) == hearth.Service && c.ctx.Err() == nil {
		logError(h.Log, c.requestID, c.claim.Service, err)
	}
	if answer == nil {
		return
	}
	if told := h.ended(c, err); told != nil && err == nil {
		h.refuse(client, c, protocolOf(r), told)
		return
	}
	if werr := answer.release(); werr != nil {
		h.Log.Debug("the caller left before the answer", "request", c.requestID, "error", werr)
	}
}
