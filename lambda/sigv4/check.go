package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	hearth "github.com/hearth-faas/hearth"
)

// unsignedPayload stands in place of the body's hash where the caller signed
// that the body is not signed.
const unsignedPayload = "UNSIGNED-PAYLOAD"

// mismatchText is the services' answer to a wrong signature.
const mismatchText = "The request signature we calculated does not match the signature you provided. " +
	"Check your AWS Secret Access Key and signing method. Consult the service documentation for details."

// Check compares the signature that c claims with the request's own. It
// returns an error of kind InvalidSignature if they differ, and that of
// Credentials if they don't and it had one. The comparison takes the same time
// wherever they differ.
func (v *Verifier) Check(c *Claim, r *http.Request, body []byte) error {
	buf := buffers.Get().(*[]byte)
	b := c.canonical((*buf)[:0], r, body)
	hash := sha256.Sum256(b)

	b = append(b[:0], algorithm+"\n"...)
	b = append(b, c.time...)
	b = append(b, '\n')
	b = append(b, c.date...)
	b = append(b, '/')
	b = append(b, c.region...)
	b = append(b, '/')
	b = append(b, c.Service...)
	b = append(b, "/"+terminator+"\n"...)
	b = hex.AppendEncode(b, hash[:])

	key := v.keys.derive(scope{c.secret, c.date, c.region, c.Service})
	var room [sha256.Size]byte
	want := mac(key[:], b, room[:0])
	*buf = b
	buffers.Put(buf)

	var got [sha256.Size]byte
	right := len(c.signature) == 2*len(got)
	if right {
		_, err := hex.Decode(got[:], []byte(c.signature))
		right = err == nil && subtle.ConstantTimeCompare(got[:], want) == 1
	}
	if v.Guard != nil {
		v.Guard.Tried(r.RemoteAddr, c.AccessKey, right, v.clock.Now())
	}
	if !right {
		c.Identity = hearth.Identity{}
		return hearth.Errorf(hearth.InvalidSignature, "%s", mismatchText)
	}
	c.refused = c.refusal != nil
	return c.refusal
}

// buffers hold canonical requests; most are under a kilobyte.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, 1024)
	return &b
}}

// canonical appends the canonical request: method, path, query, headers, their
// names, and the body's hash.
func (c *Claim) canonical(b []byte, r *http.Request, body []byte) []byte {
	b = append(b, r.Method...)
	b = append(b, '\n')
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	b = appendEscaped(b, path, '/')
	b = append(b, '\n')
	b = c.appendQuery(b, r.URL.RawQuery)
	b = append(b, '\n')
	contentHash := "" // X-Amz-Content-Sha256, if it is signed
	for name := range strings.SplitSeq(c.signedHeaders, ";") {
		b = append(b, name...)
		b = append(b, ':')
		switch name {
		case "host":
			b = appendTrimmed(b, r.Host)
		case "content-length":
			b = strconv.AppendInt(b, int64(len(body)), 10)
		default:
			values := r.Header[http.CanonicalHeaderKey(name)]
			if name == "x-amz-content-sha256" && len(values) == 1 {
				contentHash = values[0]
			}
			for i, value := range values {
				if i > 0 {
					b = append(b, ',')
				}
				b = appendTrimmed(b, value)
			}
		}
		b = append(b, '\n')
	}
	b = append(b, '\n')
	b = append(b, c.signedHeaders...)
	b = append(b, '\n')
	if c.Presigned && strings.Contains(r.URL.RawQuery, "X-Amz-Content-Sha256="+unsignedPayload) {
		contentHash = unsignedPayload
	}
	if contentHash == unsignedPayload {
		return append(b, unsignedPayload...)
	}
	hash := sha256.Sum256(body)
	return hex.AppendEncode(b, hash[:])
}

// appendQuery appends the query decoded, encoded in the one canonical way and
// sorted. A presigned request's signature is no part of what it signs.
func (c *Claim) appendQuery(b []byte, raw string) []byte {
	if raw == "" {
		return b
	}
	type parameter struct{ key, value string }
	var room [8]parameter
	list := room[:0]
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		key, value = recode(key), recode(value)
		if c.Presigned && key == "X-Amz-Signature" {
			continue
		}
		list = append(list, parameter{key, value})
	}
	slices.SortFunc(list, func(x, y parameter) int {
		if d := strings.Compare(x.key, y.key); d != 0 {
			return d
		}
		return strings.Compare(x.value, y.value)
	})
	for i, p := range list {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, p.key...)
		b = append(b, '=')
		b = append(b, p.value...)
	}
	return b
}

// recode brings a query's key or value to its canonical encoding. What cannot
// be decoded is taken as it is.
func recode(s string) string {
	plain := true
	for i := range len(s) {
		if !unreserved[s[i]] {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	if decoded, err := url.QueryUnescape(s); err == nil {
		s = decoded
	}
	return string(appendEscaped(make([]byte, 0, 3*len(s)), s, 0))
}

// unreserved are the bytes that are never percent-encoded.
var unreserved = func() (t [256]bool) {
	for c := range t {
		t[c] = 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' ||
			c == '-' || c == '_' || c == '.' || c == '~'
	}
	return t
}()

func appendEscaped(b []byte, s string, keep byte) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; unreserved[c] || c == keep && keep != 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

// appendTrimmed appends a header's value without space around it and with runs
// of spaces inside made one.
func appendTrimmed(b []byte, s string) []byte {
	s = strings.Trim(s, " \t")
	if !strings.Contains(s, "  ") {
		return append(b, s...)
	}
	space := false
	for i := range len(s) {
		if s[i] == ' ' && space {
			continue
		}
		space = s[i] == ' '
		b = append(b, s[i])
	}
	return b
}

func mac(key, message, into []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(into)
}

// scope is what a signing key is derived from. The secret is a part of it, so
// that a key which was replaced never verifies by what is cached.
type scope struct{ secret, date, region, service string }

// keyCache keeps derived keys: deriving one costs four HMACs, and it is the
// same for a day.
type keyCache struct {
	mu   sync.RWMutex
	keys map[scope][sha256.Size]byte
}

// maxKeys bounds the cache. It is emptied when full: that happens when many
// short-lived credentials have passed, or a day has.
const maxKeys = 4096

func (k *keyCache) derive(s scope) [sha256.Size]byte {
	k.mu.RLock()
	key, ok := k.keys[s]
	k.mu.RUnlock()
	if ok {
		return key
	}
	b := []byte("AWS4" + s.secret)
	for _, part := range []string{s.date, s.region, s.service, terminator} {
		b = mac(b, []byte(part), nil)
	}
	key = [sha256.Size]byte(b)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil || len(k.keys) >= maxKeys {
		k.keys = map[scope][sha256.Size]byte{}
	}
	k.keys[s] = key
	return key
}
