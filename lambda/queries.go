package lambda

import (
	"net/http"
	"net/url"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/query"
)

// STS and IAM speak the query protocol: a form in, XML out. What they do is
// theirs (package iam/wire); here their requests are read and their signatures
// checked.

// maxForm bounds a request to STS, IAM and CloudWatch Logs, in bytes.
const maxForm = 1 << 20

// serveQuery serves a request that is signed for a service with the query
// protocol.
func (h *Handler) serveQuery(w http.ResponseWriter, c *call, service *query.Service) {
	r := c.http
	body, err := readBody(r, maxForm, service.Name)
	if err == nil {
		err = h.verifier.Check(&c.claim, r, body)
	}
	if err != nil {
		h.refuse(w, c, awsQuery, err)
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		h.refuse(w, c, awsQuery, hearth.Errorf(query.MalformedInput, "The request's body is no form: %s", err))
		return
	}
	parameters := r.URL.Query()
	if !form.Has("Action") {
		form = parameters
	}
	h.begin(c, c.claim.Service, form.Get("Action"))
	if c.record != nil {
		c.record.params.Values(form)
	}
	if err = h.admit(c, service.Name); err == nil {
		err = h.mayChange(c)
	}
	if err != nil {
		h.refuse(w, c, awsQuery, h.ended(c, err))
		return
	}
	status, out, err := service.Serve(c.ctx, &query.Call{
		Caller: c.claim.Identity, RequestID: c.requestID, Form: form,
		Temporary: r.Header.Get("X-Amz-Security-Token") != "" || parameters.Get("X-Amz-Security-Token") != "",
	})
	if err != nil && status >= http.StatusInternalServerError { // the service has kinds that the table of statuses does not
		logError(h.Log, c.requestID, service.Name+"."+form.Get("Action"), err)
	}
	if told := h.ended(c, err); told != nil && err == nil {
		h.refuse(w, c, awsQuery, told)
		return
	}
	h.send(w, c, answerXML(status, out))
}

// encodeQueryError is the answer to an error where the service's own words for
// it are not needed, as before it is known which service it is.
func (h *Handler) encodeQueryError(c *call, err error) answer {
	service := h.Queries[c.claim.Service]
	if service == nil {
		service = &query.Service{Namespace: "https://sts.amazonaws.com/doc/2011-06-15/"}
	}
	return answerXML(service.Refuse(err, c.requestID))
}

func answerXML(status int, body []byte) answer {
	return answer{status: status, header: http.Header{"Content-Type": {"text/xml"}}, body: body}
}
