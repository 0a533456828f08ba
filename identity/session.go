package identity

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
)

// Session is a function's short-lived credentials.
type Session struct {
	AccessKeyID     string // begins with ASIA
	SecretAccessKey Secret
	SessionToken    Secret
	Expires         time.Time // to the second
}

// Bounds of Mint.
const (
	maxName = 64  // of a function, and so of a session
	maxRole = 512 // of a role's ARN
)

// tokenVersion is the first byte of a session token.
const tokenVersion = 1

// sessions mints and checks session tokens. Nothing is stored: the token
// carries what it says, sealed and authenticated, and the key id and secret
// that belong to it are derived from it. So a session outlives a restart, and
// needs no record on the way of a cold start.
type sessions struct {
	aead    cipher.AEAD
	secrets []byte // key of the HMAC that gives a token's key id and secret
	rand    io.Reader
	clock   hearth.Clock
	cache   cache
}

// claims is what a token says.
type claims struct {
	account hearth.Account
	session string
	role    string
	expires int64 // Unix seconds
}

// Mint makes credentials with which the function's code calls the API as the
// role roleARN for as long as ttl, which is rounded down to seconds. It keeps
// nothing, and costs some microseconds.
func (a *Authority) Mint(account hearth.Account, functionName, roleARN string, ttl time.Duration) (Session, error) {
	s := &a.sessions
	c := claims{account: account, session: functionName, role: roleARN, expires: s.clock.Now().Add(ttl).Unix()}
	if err := c.check(); err != nil {
		return Session{}, err
	}
	sealed, err := seal(s.aead, s.rand, tokenVersion, c.encode(), nil)
	if err != nil {
		return Session{}, err
	}
	id, secret := s.derive(sealed)
	return Session{
		AccessKeyID: id, SecretAccessKey: NewSecret(secret),
		SessionToken: NewSecret(base64.StdEncoding.EncodeToString(sealed)),
		Expires:      time.Unix(c.expires, 0).UTC(),
	}, nil
}

func (c *claims) check() error {
	switch {
	case !accountShape.MatchString(string(c.account)):
		return fmt.Errorf("identity: %.20q is no account", c.account)
	case c.session == "" || len(c.session) > maxName:
		return fmt.Errorf("identity: a session name of %d bytes", len(c.session))
	case len(c.role) > maxRole || c.roleName() == "":
		return fmt.Errorf("identity: %.80q is no role", c.role)
	}
	return nil
}

// roleName is the last part of the role's ARN, without its path; "" if it is
// no role's.
func (c *claims) roleName() string {
	_, path, ok := strings.Cut(c.role, ":role/")
	if !ok {
		return ""
	}
	return path[strings.LastIndexByte(path, '/')+1:]
}

// encode gives expires, and the texts each after its length:
//
//	expires 8 bytes | account 12 | len 1 | session | len 2 | role
func (c *claims) encode() []byte {
	b := make([]byte, 0, 8+12+1+len(c.session)+2+len(c.role))
	b = binary.BigEndian.AppendUint64(b, uint64(c.expires))
	b = append(b, c.account...)
	b = append(b, byte(len(c.session)))
	b = append(b, c.session...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.role)))
	return append(b, c.role...)
}

var errClaims = errors.New("identity: not the claims of a session")

func decodeClaims(b []byte) (c claims, err error) {
	take := func(n int) []byte {
		if n > len(b) {
			err, b = errClaims, nil
			return make([]byte, n)
		}
		part := b[:n]
		b = b[n:]
		return part
	}
	c.expires = int64(binary.BigEndian.Uint64(take(8)))
	c.account = hearth.Account(take(12))
	c.session = string(take(int(take(1)[0])))
	c.role = string(take(int(binary.BigEndian.Uint16(take(2)))))
	if err != nil || len(b) != 0 || c.check() != nil {
		return claims{}, errClaims
	}
	return c, nil
}

// derive gives the key id and secret of a sealed token.
func (s *sessions) derive(sealed []byte) (id, secret string) {
	mac := func(what string, n int) []byte {
		h := hmac.New(sha256.New, s.secrets)
		h.Write([]byte(what))
		h.Write(sealed)
		return h.Sum(nil)[:n]
	}
	return "ASIA" + base32.StdEncoding.EncodeToString(mac("key id:", 10)),
		base64.StdEncoding.EncodeToString(mac("secret:", 30))
}

func (c *claims) identity() hearth.Identity {
	role := sha256.Sum256([]byte(c.role))
	return hearth.Identity{
		Account: c.account,
		ARN:     "arn:aws:sts::" + string(c.account) + ":assumed-role/" + c.roleName() + "/" + c.session,
		UserID:  "AROA" + base32.StdEncoding.EncodeToString(role[:])[:17] + ":" + c.session,
	}
}

// known is a token that was checked before.
type known struct {
	keyID, secret string
	identity      hearth.Identity
	expires       int64
}

// maxToken bounds what is decoded, in characters of base64.
const maxToken = (1+12+8+12+1+maxName+2+maxRole+16+2)/3*4 + 4

func (s *sessions) lookup(accessKeyID, token string) (string, hearth.Identity, error) {
	k, ok := s.cache.get(token)
	if !ok {
		var err error
		if k, err = s.open(token); err != nil {
			return "", hearth.Identity{}, invalidToken()
		}
		s.cache.put(strings.Clone(token), k)
	}
	switch {
	case k.keyID != accessKeyID:
		return "", hearth.Identity{}, invalidToken()
	case s.clock.Now().Unix() >= k.expires:
		return "", hearth.Identity{}, hearth.Errorf(hearth.ExpiredToken, "The security token included in the request is expired")
	}
	return k.secret, k.identity, nil
}

func (s *sessions) open(token string) (*known, error) {
	if len(token) > maxToken {
		return nil, ErrSealed
	}
	// Strict: a token has one spelling.
	sealed, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil || strings.ContainsAny(token, "\r\n") {
		return nil, ErrSealed
	}
	plain, err := unseal(s.aead, tokenVersion, sealed, nil)
	if err != nil {
		return nil, err
	}
	c, err := decodeClaims(plain)
	if err != nil {
		return nil, err
	}
	k := &known{identity: c.identity(), expires: c.expires}
	k.keyID, k.secret = s.derive(sealed)
	return k, nil
}

// cacheHalf is how many tokens one half of the cache holds. An entry is less
// than 2 KiB, a usual one half of that.
const cacheHalf = 512

// cache keeps the tokens used last, at most 2*cacheHalf of them: when the
// young half is full it becomes the old one, and what was old is dropped.
// Only tokens that are authentic get in, so that strangers cannot flush it.
type cache struct {
	mu         sync.RWMutex
	young, old map[string]*known
}

func (c *cache) get(token string) (*known, bool) {
	c.mu.RLock()
	k, ok := c.young[token]
	if ok {
		c.mu.RUnlock()
		return k, true
	}
	k, ok = c.old[token]
	c.mu.RUnlock()
	if ok {
		c.put(strings.Clone(token), k)
	}
	return k, ok
}

func (c *cache) put(token string, k *known) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) >= cacheHalf || c.young == nil {
		c.young, c.old = make(map[string]*known), c.young
	}
	c.young[token] = k
}
