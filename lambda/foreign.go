package lambda

import (
	"bytes"
	"encoding/xml"
	"net/http"
	"strings"
)

// Requests for services that are not here come when a deployer's tools send
// everything to one endpoint. They are refused by their signature; what is left
// is to say so in a way that the service's clients can read.

// isS3 tells a request that is signed for S3, whose errors are XML of its own.
func isS3(r *http.Request) bool {
	const scope = "/s3/aws4_request"
	return strings.Contains(r.Header.Get("Authorization"), scope) || strings.HasSuffix(r.URL.Query().Get("X-Amz-Credential"), scope)
}

// encodeS3Error is an error as S3 spells one.
func encodeS3Error(err error, requestID string) answer {
	e := asError(err)
	var b bytes.Buffer
	b.WriteString(xml.Header)
	// Neither a buffer nor strings can fail.
	_ = xml.NewEncoder(&b).Encode(struct {
		XMLName   xml.Name `xml:"Error"`
		Code      string
		Message   string
		RequestID string `xml:"RequestId"`
	}{Code: string(e.Kind), Message: e.Message, RequestID: requestID})
	return answer{status: e.Kind.Status(), header: http.Header{"Content-Type": {"application/xml"}}, body: b.Bytes()}
}
