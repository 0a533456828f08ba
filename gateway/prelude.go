package gateway

import (
	"bytes"
	"encoding/json"
)

const (
	// integrationType is the content type of a response that begins with a
	// prelude: a JSON object that tells status, headers and cookies.
	integrationType = "application/vnd.awslambda.http-integration-response"
	// maxPrelude bounds the prelude with its end, in bytes.
	maxPrelude = 16 << 10
)

// preludeEnd stands between the prelude and the body.
var preludeEnd = make([]byte, 8)

// prelude reads the beginning of a response piece by piece.
type prelude struct{ b []byte }

// take adds a piece. Once the prelude is whole, it returns the answer that it
// describes and the beginning of the body, which may be a part of p.
func (l *prelude) take(p []byte) (a *Answer, body []byte, err error) {
	had := len(l.b)
	l.b = append(l.b, p[:min(len(p), maxPrelude-had)]...)
	from := max(0, had-len(preludeEnd)+1)
	end := bytes.Index(l.b[from:], preludeEnd)
	if end < 0 {
		if len(l.b) == maxPrelude {
			return nil, nil, ErrFunction
		}
		return nil, nil, nil
	}
	end += from
	var members map[string]json.RawMessage
	if json.Unmarshal(l.b[:end], &members) != nil {
		return nil, nil, ErrFunction
	}
	if a, err = integration(members); err != nil {
		return nil, nil, err
	}
	return a, p[end+len(preludeEnd)-had:], nil
}
