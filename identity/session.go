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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// Session is short-lived credentials.
type Session struct {
	AccessKeyID     string // begins with ASIA
	SecretAccessKey Secret
	SessionToken    Secret
	Expires         time.Time // to the second
	Identity        hearth.Identity
}

// Grant is whom a session is for.
type Grant struct {
	Account hearth.Account
	// Role is the ARN of the role that the session takes on, or User that of
	// the user whom it is of; with neither it is a session of root.
	Role string
	User string
	// RoleID is the role's unique id, AROA…; "" is one that is made from Role,
	// for a role that nobody keeps.
	RoleID string
	UserID string // AIDA…, of User
	// Name is the session's, which is the function's for a function; none for
	// root and users.
	Name string
	// Policy is a document beyond which the session may do nothing; "" is none.
	Policy string
	// Tags and Source are as hearth.Identity has them, of a session of a role.
	Tags, Source string
}

// Bounds of a Grant.
const (
	maxName   = 64 // of a function, and so of a session
	maxRole   = 1024
	maxRoleID = 32
	maxPolicy = 8192
	MaxTags   = 4096 // bytes of a Grant's Tags
	maxSource = 64
)

// tokenVersion is the first byte of a session token, plainToken that of one that
// does not tell when it was made, and has neither tags nor source, and oldToken
// that of one without a user and a policy, too.
const (
	tokenVersion = 4
	plainToken   = 3
	oldToken     = 2
)

// RoleID is the unique id of a role that nobody keeps: it is made from its ARN.
func RoleID(role string) string {
	sum := sha256.Sum256([]byte(role))
	return "AROA" + base32.StdEncoding.EncodeToString(sum[:])[:17]
}

// sessions mints and checks session tokens. Nothing is stored: the token
// carries what it says, sealed and authenticated, and the key id and secret
// that belong to it are derived from it. So a session outlives a restart, and
// needs no record on the way of a cold start.
type sessions struct {
	keys  atomic.Pointer[sessionKeys]
	rand  io.Reader
	clock hearth.Clock
	cache cache
}

// sessionKeys are those of a moment. What older has made holds until a time
// soon after the rotation, so that who works has time to ask anew.
type sessionKeys struct {
	current *sessionKey
	older   *sessionKey // nil is none
	until   time.Time
}

// sessionKey makes tokens, and opens them.
type sessionKey struct {
	aead    cipher.AEAD
	secrets []byte // key of the HMAC that gives a token's key id and secret
}

func newSessionKey(d *DataKeys) (*sessionKey, error) {
	aead, err := newAEAD(d.current(), "session tokens")
	if err != nil {
		return nil, err
	}
	secrets, err := derive(d.current(), "session secrets")
	return &sessionKey{aead, secrets}, err
}

// holding are the keys whose tokens hold now, the current one first.
func (s *sessions) holding() []*sessionKey {
	k := s.keys.Load()
	if k.older != nil && s.clock.Now().Before(k.until) {
		return []*sessionKey{k.current, k.older}
	}
	return []*sessionKey{k.current}
}

// holds tells whether tokens of the key hold.
func (s *sessions) holds(key *sessionKey) bool {
	k := s.keys.Load()
	return key == k.current || key == k.older && s.clock.Now().Before(k.until)
}

// claims is what a token says.
type claims struct {
	Grant
	expires int64 // Unix seconds
	issued  int64 // likewise; 0 is not known
}

// Mint makes credentials with which the API is called as the grant says, for
// as long as ttl, which is rounded down to seconds. It keeps nothing, and
// costs some microseconds.
func (a *Authority) Mint(g Grant, ttl time.Duration) (Session, error) {
	s := &a.sessions
	if g.Role != "" && g.RoleID == "" {
		g.RoleID = RoleID(g.Role)
	}
	now := s.clock.Now()
	c := claims{Grant: g, expires: now.Add(ttl).Unix(), issued: now.Unix()}
	if err := c.check(); err != nil {
		return Session{}, err
	}
	key := s.keys.Load().current
	sealed, err := seal(key.aead, s.rand, tokenVersion, c.encode(), nil)
	if err != nil {
		return Session{}, err
	}
	id, secret := key.derive(sealed, c.Account)
	return Session{
		AccessKeyID: id, SecretAccessKey: NewSecret(secret),
		SessionToken: NewSecret(base64.StdEncoding.EncodeToString(sealed)),
		Expires:      time.Unix(c.expires, 0).UTC(),
		Identity:     c.identity(),
	}, nil
}

func (c *claims) check() error {
	switch {
	case !accountShape.MatchString(string(c.Account)):
		return fmt.Errorf("identity: %.20q is no account", c.Account)
	case len(c.Policy) > maxPolicy:
		return fmt.Errorf("identity: a session policy of %d bytes", len(c.Policy))
	case len(c.Tags) > MaxTags || len(c.Source) > maxSource || c.Role == "" && c.Tags+c.Source != "":
		return fmt.Errorf("identity: tags of %d and a source of %d bytes", len(c.Tags), len(c.Source))
	case c.User != "" && (c.Role != "" || c.Name != "" || c.RoleID != "" || c.UserID == "" || len(c.UserID) > maxRoleID || len(c.User) > maxRole ||
		!strings.HasPrefix(c.User, "arn:aws:iam::"+string(c.Account)+":user/")):
		return fmt.Errorf("identity: %.80q is no user", c.User)
	case c.User == "" && c.UserID != "":
		return errors.New("identity: the id of no user")
	case c.Role == "" && (c.Name != "" || c.RoleID != ""):
		return errors.New("identity: a session of root has a name or a role's id")
	case c.Role == "":
		return nil
	case c.Name == "" || len(c.Name) > maxName:
		return fmt.Errorf("identity: a session name of %d bytes", len(c.Name))
	case len(c.Role) > maxRole || c.roleName() == "":
		return fmt.Errorf("identity: %.80q is no role", c.Role)
	case c.RoleID == "" || len(c.RoleID) > maxRoleID:
		return fmt.Errorf("identity: %.80q is no id of a role", c.RoleID)
	}
	return nil
}

// roleName is the last part of the role's ARN, without its path; "" if it is
// no role's.
func (c *claims) roleName() string {
	_, path, ok := strings.Cut(c.Role, ":role/")
	if !ok {
		return ""
	}
	return path[strings.LastIndexByte(path, '/')+1:]
}

// encode gives expires, and the texts each after its length:
//
//	expires 8 bytes | account 12 | len 1 | name | len 1 | role id | len 2 | role |
//	len 1 | user id | len 2 | user | len 2 | policy |
//	issued 8 | len 2 | tags | len 1 | source
//
// A plain token ends after the policy, and an old one after the role.
func (c *claims) encode() []byte {
	b := make([]byte, 0, 8+12+1+len(c.Name)+1+len(c.RoleID)+2+len(c.Role)+1+len(c.UserID)+2+len(c.User)+2+len(c.Policy)+8+2+len(c.Tags)+1+len(c.Source))
	b = binary.BigEndian.AppendUint64(b, uint64(c.expires))
	b = append(b, c.Account...)
	b = append(b, byte(len(c.Name)))
	b = append(b, c.Name...)
	b = append(b, byte(len(c.RoleID)))
	b = append(b, c.RoleID...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Role)))
	b = append(b, c.Role...)
	b = append(b, byte(len(c.UserID)))
	b = append(b, c.UserID...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.User)))
	b = append(b, c.User...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Policy)))
	b = append(b, c.Policy...)
	b = binary.BigEndian.AppendUint64(b, uint64(c.issued))
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Tags)))
	b = append(b, c.Tags...)
	b = append(b, byte(len(c.Source)))
	return append(b, c.Source...)
}

var errClaims = errors.New("identity: not the claims of a session")

func decodeClaims(version byte, b []byte) (c claims, err error) {
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
	c.Account = hearth.Account(take(12))
	c.Name = string(take(int(take(1)[0])))
	c.RoleID = string(take(int(take(1)[0])))
	c.Role = string(take(int(binary.BigEndian.Uint16(take(2)))))
	if version != oldToken {
		c.UserID = string(take(int(take(1)[0])))
		c.User = string(take(int(binary.BigEndian.Uint16(take(2)))))
		c.Policy = string(take(int(binary.BigEndian.Uint16(take(2)))))
	}
	if version == tokenVersion {
		c.issued = int64(binary.BigEndian.Uint64(take(8)))
		c.Tags = string(take(int(binary.BigEndian.Uint16(take(2)))))
		c.Source = string(take(int(take(1)[0])))
	}
	if err != nil || len(b) != 0 || c.check() != nil {
		return claims{}, errClaims
	}
	return c, nil
}

// derive gives the key id and secret of a sealed token. A key id tells its
// account to whoever made it: its first six bytes are of the token, the other
// four say that these six are of the account.
func (s *sessionKey) derive(sealed []byte, account hearth.Account) (id, secret string) {
	key := s.mac("key id:", sealed)[:6]
	key = append(key, s.mac("account "+string(account)+":", key)[:4]...)
	return sessionPrefix + base32.StdEncoding.EncodeToString(key),
		base64.StdEncoding.EncodeToString(s.mac("secret:", sealed)[:30])
}

// sessionPrefix begins the key ids of sessions.
const sessionPrefix = "ASIA"

func (s *sessionKey) mac(what string, of []byte) []byte {
	h := hmac.New(sha256.New, s.secrets)
	h.Write([]byte(what))
	h.Write(of)
	return h.Sum(nil)
}

// made tells whether derive made the key id for the account.
func (s *sessions) made(id string, account hearth.Account) bool {
	rest, ok := strings.CutPrefix(id, sessionPrefix)
	key, err := base32.StdEncoding.DecodeString(rest)
	return ok && err == nil && len(key) == 10 && slices.ContainsFunc(s.holding(), func(by *sessionKey) bool {
		return hmac.Equal(key[6:], by.mac("account "+string(account)+":", key[:6])[:4])
	})
}

// AccountOf tells whose an access key is, also of a session that has ended.
// It reports false for a key that this Authority did not make.
func (a *Authority) AccountOf(accessKeyID string) (hearth.Account, bool) {
	if accessKeyID == a.root.AccessKeyID || a.sessions.made(accessKeyID, a.root.Account) {
		return a.root.Account, true
	}
	d := a.directory()
	if d == nil {
		return "", false
	}
	if _, id, ok := d.FindKey(accessKeyID); ok {
		return id.Account, true
	}
	for _, account := range d.Accounts() {
		if a.sessions.made(accessKeyID, account) {
			return account, true
		}
	}
	return "", false
}

func (c *claims) identity() hearth.Identity {
	id := hearth.Identity{Account: c.Account, ARN: c.User, UserID: c.UserID}
	if c.User == "" {
		id = rootOf(c.Account)
	}
	if c.Role == "" {
		id.Policy, id.Issued = c.Policy, c.issued
		return id
	}
	return hearth.Identity{
		Account: c.Account, Role: c.Role, Policy: c.Policy, Issued: c.issued, Tags: c.Tags, Source: c.Source,
		ARN:    "arn:aws:sts::" + string(c.Account) + ":assumed-role/" + c.roleName() + "/" + c.Name,
		UserID: c.RoleID + ":" + c.Name,
	}
}

func rootOf(account hearth.Account) hearth.Identity {
	return hearth.Identity{Account: account, ARN: "arn:aws:iam::" + string(account) + ":root", UserID: string(account)}
}

// known is a token that was checked before.
type known struct {
	by            *sessionKey
	keyID, secret string
	identity      hearth.Identity
	expires       int64
}

// maxToken bounds what is decoded, in characters of base64.
const maxToken = (1+12+8+12+1+maxName+1+maxRoleID+2+maxRole+1+maxRoleID+2+maxRole+2+maxPolicy+8+2+MaxTags+1+maxSource+16+2)/3*4 + 4

func (s *sessions) lookup(accessKeyID, token string) (string, hearth.Identity, error) {
	k, ok := s.cache.get(token)
	if !ok || !s.holds(k.by) {
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
	version := byte(tokenVersion)
	if len(sealed) > 0 && (sealed[0] == oldToken || sealed[0] == plainToken) {
		version = sealed[0]
	}
	var plain []byte
	var by *sessionKey
	for _, by = range s.holding() {
		if plain, err = unseal(by.aead, version, sealed, nil); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	c, err := decodeClaims(version, plain)
	if err != nil {
		return nil, err
	}
	k := &known{by: by, identity: c.identity(), expires: c.expires}
	k.keyID, k.secret = by.derive(sealed, c.Account)
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
