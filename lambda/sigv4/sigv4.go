// Package sigv4 checks the AWS Signature Version 4 of HTTP requests: signed by
// header or presigned in the query.
//
// A check has two halves. Open reads what the request says about its signature
// and refuses what can be refused without the body: a malformed or foreign
// scope, an unknown key, a time out of bounds. Check compares the signature
// itself. A server that reads the body between the two spends no memory on
// callers it does not know.
//
// The answers (kind and text) are those of the AWS services. How a signature
// is made: "Create a signed AWS API request" in the IAM user guide.
package sigv4

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// Skew is how far a request's time may be from the server's.
const Skew = 5 * time.Minute

// MaxExpiry is the longest time for which a request can be presigned.
const MaxExpiry = 7 * 24 * time.Hour

// defaultExpiry is for a presigned request that names none, as the SDKs make
// them for STS.
const defaultExpiry = 15 * time.Minute

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeFormat = "20060102T150405Z"
)

// Credentials knows the secrets. Safe for concurrent use.
type Credentials interface {
	// Lookup finds the secret of an access key; sessionToken is "" for one
	// that is not temporary. Its errors are what the caller is told: of kind
	// UnrecognizedClient for a key or token that does not exist. One that comes
	// with a secret is told only to whoever proves that he has it.
	Lookup(accessKeyID, sessionToken string) (secret string, id hearth.Identity, err error)
}

// Verifier checks signatures. Safe for concurrent use.
type Verifier struct {
	credentials Credentials
	clock       hearth.Clock
	region      string
	services    []string
	keys        keyCache

	// Guard bounds the tries at signatures; nil does not. It is set before the
	// first request.
	Guard Guard
}

// Guard bounds how often signatures are tried that are not right. Safe for
// concurrent use.
type Guard interface {
	// Allow is an error if nothing more is tried for now from the source, an
	// address with its port, with the access key.
	Allow(source, accessKey string, now time.Time) error
	// Tried tells what came of a try.
	Tried(source, accessKey string, right bool, now time.Time)
}

// New makes a verifier that accepts signatures for the region and the
// services, such as "lambda".
func New(credentials Credentials, clock hearth.Clock, region string, services ...string) *Verifier {
	return &Verifier{credentials: credentials, clock: clock, region: region, services: services}
}

// Claim is what a request says about its signature. It is not proven until
// Check has accepted it, and of nobody if Check has not.
type Claim struct {
	Identity  hearth.Identity
	AccessKey string // the key's id
	Service   string // of the scope: one of the verifier's
	Presigned bool

	secret        string
	refusal       error  // of who is known, and not let in; nil is none
	refused       bool   // and who has proven that he is
	date          string // of the scope: YYYYMMDD
	region        string
	time          string // YYYYMMDDTHHMMSSZ
	signedHeaders string // as sent: lower case, separated by semicolons
	signature     string // hexadecimal
}

// Verify is Open and Check in one.
func (v *Verifier) Verify(r *http.Request, body []byte) (Claim, error) {
	c, err := v.Open(r)
	if err == nil {
		err = v.Check(&c, r, body)
	}
	return c, err
}

// Open reads a request's claim and checks everything but the signature. Its
// errors are of the kinds MissingToken, IncompleteSignature, InvalidSignature,
// and those of Credentials.
func (v *Verifier) Open(r *http.Request) (Claim, error) {
	var c Claim
	var credential, token string
	var err error
	var expires time.Duration
	if header := r.Header["Authorization"]; len(header) > 0 {
		credential, err = c.readHeader(r, header[0])
		token = first(r.Header["X-Amz-Security-Token"])
	} else if strings.Contains(r.URL.RawQuery, "X-Amz-Algorithm=") {
		credential, token, expires, err = c.readQuery(r)
	} else {
		return c, hearth.Errorf(hearth.MissingToken, "Missing Authentication Token")
	}
	if err != nil {
		return c, err
	}
	key, err := c.readScope(v, credential)
	if err != nil {
		return c, err
	}
	c.AccessKey = key
	if err := c.checkTime(v.clock.Now().UTC(), expires); err != nil {
		return c, err
	}
	if v.Guard != nil {
		if err := v.Guard.Allow(r.RemoteAddr, key, v.clock.Now()); err != nil {
			return c, err
		}
	}
	c.secret, c.Identity, err = v.credentials.Lookup(key, token)
	if err != nil && c.secret != "" {
		c.refusal, err = err, nil
	}
	if err != nil && v.Guard != nil && hearth.KindOf(err) == hearth.UnrecognizedClient {
		v.Guard.Tried(r.RemoteAddr, key, false, v.clock.Now())
	}
	return c, err
}

// Refused tells whether the claim was proven, and whose it is not let in, as one
// of a suspended account: Check has said why.
func (c *Claim) Refused() bool { return c.refused }

// Signature is the signature that the request came with, in hexadecimal.
func (c *Claim) Signature() string { return c.signature }

// readHeader reads the Authorization header.
func (c *Claim) readHeader(r *http.Request, header string) (credential string, err error) {
	rest, ok := strings.CutPrefix(header, algorithm)
	if !ok || rest == "" || rest[0] != ' ' {
		word, _, _ := strings.Cut(header, " ")
		return "", hearth.Errorf(hearth.IncompleteSignature, "Unsupported AWS 'algorithm': '%s'.", word)
	}
	for rest != "" {
		var pair string
		pair, rest, _ = strings.Cut(rest, ",")
		name, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok {
			return "", hearth.Errorf(hearth.IncompleteSignature,
				"'%s' not a valid key=value pair (missing equal-sign) in Authorization header: '%s'.", name, header)
		}
		switch name {
		case "Credential":
			credential = value
		case "SignedHeaders":
			c.signedHeaders = value
		case "Signature":
			c.signature = value
		}
	}
	if c.time = first(r.Header["X-Amz-Date"]); c.time == "" {
		if at, err := http.ParseTime(first(r.Header["Date"])); err == nil {
			c.time = at.UTC().Format(timeFormat)
		}
	}
	var missing strings.Builder
	for _, need := range []struct{ name, value string }{
		{"Credential", credential}, {"Signature", c.signature}, {"SignedHeaders", c.signedHeaders},
	} {
		if need.value == "" {
			missing.WriteString("Authorization header requires '" + need.name + "' parameter. ")
		}
	}
	if c.time == "" {
		missing.WriteString("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ")
	}
	if missing.Len() > 0 {
		return "", hearth.Errorf(hearth.IncompleteSignature, "%sAuthorization=%s", missing.String(), header)
	}
	return credential, c.checkHeaders()
}

// readQuery reads the parameters of a presigned request.
func (c *Claim) readQuery(r *http.Request) (credential, token string, expires time.Duration, err error) {
	q := r.URL.Query()
	c.Presigned = true
	if a := q.Get("X-Amz-Algorithm"); a != algorithm {
		return "", "", 0, hearth.Errorf(hearth.IncompleteSignature, "Unsupported AWS 'algorithm': '%s'.", a)
	}
	var missing strings.Builder
	for _, need := range []struct {
		name string
		into *string
	}{
		{"X-Amz-Credential", &credential}, {"X-Amz-Signature", &c.signature},
		{"X-Amz-SignedHeaders", &c.signedHeaders}, {"X-Amz-Date", &c.time},
	} {
		if *need.into = q.Get(need.name); *need.into == "" {
			missing.WriteString("AWS query-string parameters must include '" + need.name + "'. ")
		}
	}
	seconds, convErr := int(defaultExpiry/time.Second), error(nil)
	if text := q.Get("X-Amz-Expires"); text != "" {
		seconds, convErr = strconv.Atoi(text)
	}
	if missing.Len() > 0 || convErr != nil || seconds < 1 {
		return "", "", 0, hearth.Errorf(hearth.IncompleteSignature,
			"%sRe-examine the query-string parameters.", missing.String())
	}
	if expires = time.Duration(seconds) * time.Second; seconds > int(MaxExpiry/time.Second) {
		return "", "", 0, hearth.Errorf(hearth.InvalidSignature, "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
	}
	return credential, q.Get("X-Amz-Security-Token"), expires, c.checkHeaders()
}

// checkHeaders requires the headers without which a signature could be used
// for another host or another time.
func (c *Claim) checkHeaders() error {
	host, at := false, false
	for name := range strings.SplitSeq(c.signedHeaders, ";") {
		host = host || name == "host"
		at = at || name == "x-amz-date" || name == "date"
	}
	if !host {
		return hearth.Errorf(hearth.InvalidSignature, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if !at && !c.Presigned {
		return hearth.Errorf(hearth.InvalidSignature, "'X-Amz-Date' or 'Date' must be a 'SignedHeader' in the AWS Authorization.")
	}
	return nil
}

// readScope reads key/date/region/service/aws4_request and returns the key.
func (c *Claim) readScope(v *Verifier, credential string) (key string, err error) {
	var parts [5]string
	rest, more := credential, true
	n := 0
	for ; more && n < len(parts); n++ {
		parts[n], rest, more = strings.Cut(rest, "/")
	}
	if more || n < len(parts) {
		return "", hearth.Errorf(hearth.IncompleteSignature,
			"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'.", credential)
	}
	c.date, c.region, c.Service = parts[1], parts[2], parts[3]
	var wrong strings.Builder
	if !slices.Contains(v.services, c.Service) {
		wrong.WriteString("Credential should be scoped to correct service: '" + v.services[0] + "'. ")
		if c.Service != "" && len(c.Service) < 64 {
			wrong.WriteString("Hearth serves " + strings.Join(slices.Sorted(slices.Values(v.services)), ", ") + ", and not '" + c.Service +
				"': have that service's clients use another endpoint (AWS_ENDPOINT_URL_ and its name). ")
		}
	}
	// IAM is a global service, and STS one at heart: their clients may sign for
	// us-east-1 wherever they are.
	if c.region != v.region && !((c.Service == "sts" || c.Service == "iam") && c.region == "us-east-1") {
		wrong.WriteString("Credential should be scoped to a valid region, not '" + c.region + "'. ")
	}
	if parts[4] != terminator {
		wrong.WriteString("Credential should be scoped with a valid terminator: '" + terminator + "', not '" + parts[4] + "'. ")
	}
	if !strings.HasPrefix(c.time, c.date) || len(c.date) != 8 {
		wrong.WriteString("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '" +
			c.date + "' != '" + c.time[:min(8, len(c.time))] + "', from '" + c.time + "'. ")
	}
	if wrong.Len() > 0 {
		return "", hearth.Errorf(hearth.InvalidSignature, "%s", strings.TrimSpace(wrong.String()))
	}
	return parts[0], nil
}

// checkTime requires that the request is of now or, if it was presigned, that
// it has not expired.
func (c *Claim) checkTime(now time.Time, expires time.Duration) error {
	at, err := time.Parse(timeFormat, c.time)
	if err != nil {
		return hearth.Errorf(hearth.IncompleteSignature,
			"Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", c.time)
	}
	valid := max(expires, Skew)
	if c.Presigned {
		valid = expires
	}
	if earliest := now.Add(-valid); at.Before(earliest.Truncate(time.Second)) {
		return hearth.Errorf(hearth.InvalidSignature, "Signature expired: %s is now earlier than %s (%s - %d min.)",
			c.time, earliest.Format(timeFormat), now.Format(timeFormat), int(valid.Minutes()))
	}
	if latest := now.Add(Skew); at.After(latest) {
		return hearth.Errorf(hearth.InvalidSignature, "Signature not yet current: %s is still later than %s (%s + %d min.)",
			c.time, latest.Format(timeFormat), now.Format(timeFormat), int(Skew.Minutes()))
	}
	return nil
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
