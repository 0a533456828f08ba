package lambda

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

// STS speaks the query protocol: a form in, XML out. Tools ask it one thing,
// who they are.

const stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"

// maxForm bounds a request to STS and CloudWatch Logs, in bytes.
const maxForm = 1 << 20

type stsIdentity struct {
	XMLName   xml.Name `xml:"GetCallerIdentityResponse"`
	Namespace string   `xml:"xmlns,attr"`
	ARN       string   `xml:"GetCallerIdentityResult>Arn"`
	UserID    string   `xml:"GetCallerIdentityResult>UserId"`
	Account   string   `xml:"GetCallerIdentityResult>Account"`
	RequestID string   `xml:"ResponseMetadata>RequestId"`
}

type stsError struct {
	XMLName   xml.Name `xml:"ErrorResponse"`
	Namespace string   `xml:"xmlns,attr"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

// serveSTS serves a request that is signed for STS.
func (h *Handler) serveSTS(w http.ResponseWriter, c *call) {
	r := c.http
	body, err := readBody(r, maxForm, "STS")
	if err == nil {
		err = h.verifier.Check(&c.claim, r, body)
	}
	if err != nil {
		h.refuse(w, c, awsQuery, err)
		return
	}
	action := r.URL.Query().Get("Action")
	if form, err := url.ParseQuery(string(body)); err == nil && form.Has("Action") {
		action = form.Get("Action")
	}
	if action != "GetCallerIdentity" {
		h.refuse(w, c, awsQuery, hearth.Errorf(hearth.UnknownOperation, "Could not find operation %s for version 2011-06-15", action))
		return
	}
	id := c.claim.Identity
	h.send(w, c, encodeXML(http.StatusOK, stsIdentity{
		Namespace: stsNamespace, ARN: id.ARN, UserID: id.UserID, Account: string(id.Account), RequestID: c.requestID,
	}))
}

// queryCodes are the names that STS gives to errors which Lambda names
// otherwise.
var queryCodes = map[hearth.Kind]string{
	hearth.InvalidSignature:    "SignatureDoesNotMatch",
	hearth.UnrecognizedClient:  "InvalidClientTokenId",
	hearth.MissingToken:        "MissingAuthenticationToken",
	hearth.IncompleteSignature: "IncompleteSignature",
	hearth.UnknownOperation:    "InvalidAction",
	hearth.Service:             "InternalFailure",
}

// encodeQueryError is the answer to an error, as STS gives it.
func encodeQueryError(err error, requestID string) answer {
	e := asError(err)
	code, ok := queryCodes[e.Kind]
	if !ok {
		code = strings.TrimSuffix(string(e.Kind), "Exception")
	}
	shape := shapeOf(e.Kind)
	fault := "Sender"
	if shape.status >= 500 {
		fault = "Receiver"
	}
	return encodeXML(shape.status, stsError{Namespace: stsNamespace, Type: fault, Code: code, Message: e.Message, RequestID: requestID})
}

func encodeXML(status int, v any) answer {
	body, err := xml.Marshal(v)
	if err != nil {
		panic(err) // two fixed structs of strings
	}
	return answer{status: status, header: http.Header{"Content-Type": {"text/xml"}}, body: body}
}
