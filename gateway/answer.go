package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"

	hearth "github.com/hearth-faas/hearth"
)

// Answer is what a function has returned, as a response.
type Answer struct {
	Status  int
	Header  http.Header
	Cookies []string
	Body    []byte
}

// AnswerOf reads what a function returned as a whole.
//
// A JSON object with a statusCode is a response in the payload format 2.0.
// Whatever else is JSON is the body of a 200, as it stands. A function that
// streams in the form for HTTP may be called by a URL that does not: its
// prelude is understood here, too. Errors: ErrFunction.
func AnswerOf(r *hearth.Result) (*Answer, error) {
	if r.FunctionError != "" {
		return nil, ErrFunction
	}
	if r.ContentType == integrationType {
		var l prelude
		a, body, err := l.take(r.Payload)
		if err == nil && a == nil {
			err = ErrFunction
		}
		if err != nil {
			return nil, err
		}
		a.Body = body
		return a, nil
	}
	a := &Answer{Status: http.StatusOK, Header: http.Header{}, Body: r.Payload}
	if r.ContentType != "" {
		a.Header.Set("Content-Type", r.ContentType)
	}
	var members map[string]json.RawMessage
	if trimmed := bytes.TrimLeft(r.Payload, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' || json.Unmarshal(trimmed, &members) != nil {
		return a, nil
	}
	if _, ok := members["statusCode"]; !ok {
		return a, nil
	}
	return integration(members)
}

// integration reads a response in the payload format 2.0, or the prelude of
// one, which has no body.
func integration(members map[string]json.RawMessage) (*Answer, error) {
	a := &Answer{Status: http.StatusOK, Header: http.Header{}}
	if raw, ok := members["statusCode"]; ok {
		text, ok := scalar(raw)
		status, err := strconv.Atoi(text)
		// A 1xx would be no final answer.
		if !ok || err != nil || status < 200 || status > 999 {
			return nil, ErrFunction
		}
		a.Status = status
	}
	var headers map[string]json.RawMessage
	if json.Unmarshal(or(members["headers"], "null"), &headers) != nil {
		return nil, ErrFunction
	}
	for name, raw := range headers {
		value, ok := scalar(raw)
		if !ok {
			return nil, ErrFunction
		}
		if value != "" || string(raw) != "null" {
			a.Header.Add(name, value)
		}
	}
	if json.Unmarshal(or(members["cookies"], "null"), &a.Cookies) != nil {
		return nil, ErrFunction
	}
	var encoded bool
	if json.Unmarshal(or(members["isBase64Encoded"], "null"), &encoded) != nil {
		return nil, ErrFunction
	}
	body := or(members["body"], "null")
	text, ok := scalar(body)
	switch {
	case !ok: // an object or a list: as it stands
		a.Body = body
	case encoded:
		decoded, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, ErrFunction
		}
		a.Body = decoded
	default:
		a.Body = []byte(text)
	}
	return a, nil
}

func or(raw json.RawMessage, otherwise string) json.RawMessage {
	if raw == nil {
		return json.RawMessage(otherwise)
	}
	return raw
}

// scalar is the text of a JSON string, number, boolean or null; false for an
// object or a list.
func scalar(raw json.RawMessage) (string, bool) {
	switch raw[0] {
	case '"':
		var s string
		return s, json.Unmarshal(raw, &s) == nil
	case '{', '[':
		return "", false
	case 'n':
		return "", true
	}
	return string(raw), true
}

// ours are the headers that are the server's to set. What a function says in
// them is handed on under another name, as the service does.
var ours = map[string]bool{
	"Connection": true, "Content-Length": true, "Date": true, "Keep-Alive": true, "Proxy-Connection": true,
	"Server": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"X-Amzn-Requestid": true, "X-Amzn-Trace-Id": true, "X-Hearth-Recorded": true,
}

// head sets the response's headers, all but Content-Length.
func (a *Answer) head(w http.ResponseWriter, q *request) {
	a.Head(w.Header())
	AllowOrigin(w.Header(), q.http, q.CORS)
}

// Head adds the response's headers to header, all but Content-Length.
func (a *Answer) Head(header http.Header) {
	for name, values := range a.Header {
		if ours[name] {
			name = "X-Amzn-Remapped-" + name
		}
		header[name] = values
	}
	if header["Content-Type"] == nil && HasBody(a.Status) {
		header["Content-Type"] = []string{"application/json"}
	}
	if len(a.Cookies) > 0 {
		header["Set-Cookie"] = append(header["Set-Cookie"], a.Cookies...)
	}
}

// HasBody tells whether a response of the status has a body.
func HasBody(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// Ours tells whether a header is the server's to set.
func Ours(name string) bool { return ours[name] }
