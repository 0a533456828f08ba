package apigateway

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/coder/websocket"

	hearth "github.com/hearth-faas/hearth"
)

// What functions and others ask of connections that are open: API Gateway's
// management API, signed for execute-api.

// managed is a refusal as the clients of the management API know it.
func managed(status int, name, message string) *refusal {
	return &refusal{status: status, message: message, sort: "ACCESS_DENIED", header: http.Header{"X-Amzn-Errortype": {name}}}
}

// manage sends to a connection, tells about it, or ends it.
func (c *call) manage(w http.ResponseWriter, id string) error {
	method := c.http.Method
	if method != http.MethodPost && method != http.MethodGet && method != http.MethodDelete {
		return managed(http.StatusForbidden, "ForbiddenException", "Forbidden")
	}
	if err := c.mayManage(w); err != nil {
		return err
	}
	n := c.s.sockets.find(id, c.table.id, c.stage.Name)
	gone := managed(http.StatusGone, "GoneException", "Gone")
	if n == nil {
		return gone
	}
	switch method {
	case http.MethodGet:
		b, err := json.Marshal(struct {
			ConnectedAt  string         `json:"connectedAt"`
			Identity     socketIdentity `json:"identity"`
			LastActiveAt string         `json:"lastActiveAt"`
		}{n.began.UTC().Format(time.RFC3339), socketIdentity{n.from, n.agent}, time.Unix(0, n.last.Load()).UTC().Format(time.RFC3339)})
		if err != nil {
			return err
		}
		w.Header()["Content-Type"] = []string{"application/json"}
		c.write(w, http.StatusOK, b)
		return nil
	case http.MethodDelete:
		n.close(websocket.StatusNormalClosure, "Connection Closed Normally")
		c.write(w, http.StatusNoContent, nil)
		return nil
	}
	if len(c.body) > maxMessage {
		return managed(http.StatusRequestEntityTooLarge, "PayloadTooLargeException", "Payload too large")
	}
	if err := n.send(c.ctx, c.s.Clock.Now(), sentOf(c.body)); err != nil {
		if c.ctx.Err() != nil {
			return errGone
		}
		return gone
	}
	c.write(w, http.StatusOK, nil)
	return nil
}

// mayManage lets in whoever has signed and may manage the stage's connections.
// The body is read by then.
func (c *call) mayManage(w http.ResponseWriter) error {
	claim, err := c.s.verifier.Open(c.http)
	if err == nil {
		if err := c.readBody(w); err != nil {
			return err
		}
		err = c.s.verifier.Check(&claim, c.http, c.body)
	}
	refuse := func(why string) error {
		return managed(http.StatusForbidden, "ForbiddenException", "Forbidden").because(why)
	}
	if err != nil {
		if hearth.KindOf(err) == hearth.Service {
			return errInternal.because(err.Error())
		}
		return refuse(message(err))
	}
	if claim.Identity.Account != c.table.account {
		return refuse(claim.Identity.ARN + " is of another account than the API")
	}
	c.who.id, c.who.accessKey = &claim.Identity, claim.AccessKey
	if c.s.Authorize == nil {
		return nil
	}
	arn := c.s.executeARN(c.table.account, c.table.id) + "/" + c.stage.Name + "/" + c.http.Method + "/@connections"
	if err := c.s.Authorize(c.ctx, claim.Identity, "execute-api:ManageConnections", arn); err != nil {
		return refuse(message(err))
	}
	return nil
}
