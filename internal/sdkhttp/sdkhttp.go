// Package sdkhttp sends the requests of AWS's SDK for Go as they are meant.
//
// The SDK closes a request's body as soon as the response's header is there.
// net/http then may still be looking for an end of the body, by the body's
// WriterTo, which the SDK's answers with io.EOF once it is closed (smithy-go
// 1.28). No WriterTo may: it is taken for a failure to send, and the connection
// is closed while its response is being read. A server that answers within
// microseconds, as one on the same machine does, meets this now and then. The
// Read of the same body does as it should, so that is all that is shown here.
package sdkhttp

import (
	"io"
	"net/http"
)

// Client is c, or http.DefaultClient if that is nil, for the SDK. It implements
// aws.HTTPClient.
type Client struct{ C *http.Client }

// Do sends the request.
func (c Client) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	if c.C == nil {
		return http.DefaultClient.Do(r)
	}
	return c.C.Do(r)
}
