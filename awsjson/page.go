package awsjson

import (
	"encoding/base64"
	"encoding/json"
	"strconv"

	hearth "github.com/hearth-faas/hearth"
)

// Read decodes the body of a request of a service whose operations stand in
// method and path; an empty one sets nothing. Errors: ValidationException.
func (r *Request) Read(into any) error {
	if len(r.Body) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Body, into); err != nil {
		return hearth.Errorf(hearth.Validation, "The request's body can't be read: %s", err)
	}
	return nil
}

// Page reads what the query of such a request says of the page that it wants:
// how many at most, and what it begins behind. max and token are the names in
// the query, most is what a page has at most, and unless another is given.
// Errors: ValidationException.
func (r *Request) Page(max, token string, most int) (n int, after string, err error) {
	q := r.HTTP.URL.Query()
	n = most
	if text := q.Get(max); text != "" {
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > most {
			return 0, "", hearth.Errorf(hearth.Validation, "%s must be between 1 and %d: %.20q", max, most, text)
		}
	}
	b, err := base64.RawURLEncoding.DecodeString(q.Get(token))
	if err != nil {
		return 0, "", hearth.Errorf(hearth.Validation, "Invalid %s.", token)
	}
	return n, string(b), nil
}

// Token is the token of the page behind the one that ends with last; "" of "".
func Token(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }
