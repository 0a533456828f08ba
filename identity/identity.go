package identity

import (
	"context"
	crand "crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-faas/hearth"
)

// Config says where the credentials are and what they are made with.
type Config struct {
	Dir string // the data folder, whose lock the caller holds
	// Account and Region are those of a first start; "" is the default. Later
	// starts take what the first one made, and refuse another one here.
	Account hearth.Account
	Region  string
	// MasterKey is the file of the master key, an absolute path; "" is
	// MasterKeyFile in Dir.
	MasterKey string
	Clock     hearth.Clock
	Rand      io.Reader    // nil is crypto/rand
	Log       *slog.Logger // nil is slog.Default
}

// Authority makes credentials and tells whose they are. Safe for concurrent
// use.
type Authority struct {
	root         Root
	rootIdentity hearth.Identity
	since        time.Time
	key          *Key
	keys         *Keyring
	clock        hearth.Clock

	changing sync.Mutex // the data keys
	data     *DataKeys
	sessions sessions
	// accounts is nil as long as there is none but root's.
	accounts atomic.Pointer[Directory]
}

// Directory knows the accounts and their long-lived keys, but for root's own.
// Safe for concurrent use; it is asked by every request, so that it must answer
// from memory.
type Directory interface {
	// FindKey returns the secret of a long-lived key and whose it is.
	FindKey(accessKeyID string) (secret string, id hearth.Identity, ok bool)
	// Usable tells whether requests signed for the account are let in; its
	// error is what the caller is told.
	Usable(account hearth.Account) error
	// Accounts are all that there are.
	Accounts() []hearth.Account
}

// Consult has the Authority answer for the accounts of a Directory too.
func (a *Authority) Consult(d Directory) { a.accounts.Store(&d) }

// directory is what was given to Consult, or nil.
func (a *Authority) directory() Directory {
	if d := a.accounts.Load(); d != nil {
		return *d
	}
	return nil
}

// LoadOrCreate reads the account's credentials and master key from the data
// folder, or makes them at its first start.
func LoadOrCreate(cfg Config) (*Authority, error) {
	if cfg.Rand == nil {
		cfg.Rand = crand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	for _, field := range []struct {
		what, value string
		ok          bool
	}{
		{"account", string(cfg.Account), cfg.Account == "" || accountShape.MatchString(string(cfg.Account))},
		{"region", cfg.Region, cfg.Region == "" || regionShape.MatchString(cfg.Region)},
	} {
		if !field.ok {
			return nil, fmt.Errorf("%q is no %s: an account is twelve digits, a region looks like us-east-1", field.value, field.what)
		}
	}
	if err := sweep(cfg.Dir, CredentialsFile, MasterKeyFile, DataKeysFile); err != nil {
		return nil, err
	}
	data, err := loadMaster(cfg)
	if err != nil {
		return nil, err
	}
	if !exists(filepath.Join(cfg.Dir, DataKeysFile)) { // a first start, or the first since there are data keys
		if err := data.write(context.Background()); err != nil {
			return nil, err
		}
	}
	root, err := loadRoot(cfg)
	if err != nil {
		return nil, err
	}
	sealing, err := data.key(secretsPurpose)
	if err != nil {
		return nil, err
	}
	session, err := newSessionKey(data)
	if err != nil {
		return nil, err
	}
	keys, err := newKeyring(cfg.Dir, root, data)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(filepath.Join(cfg.Dir, CredentialsFile))
	if err != nil {
		return nil, err
	}
	a := &Authority{
		keys: keys,
		root: root, since: info.ModTime().UTC().Truncate(time.Second),
		rootIdentity: rootOf(root.Account),
		key:          sealing,
		data:         data,
		clock:        cfg.Clock,
		sessions:     sessions{rand: cfg.Rand, clock: cfg.Clock},
	}
	a.sessions.keys.Store(&sessionKeys{current: session})
	return a, nil
}

// secretsPurpose is what the key is for that Authority.Key returns.
const secretsPurpose = "secrets at rest"

var defaultRand io.Reader = crand.Reader

func loadRoot(cfg Config) (Root, error) {
	data, err := loadOrCreate(cfg.Dir, CredentialsFile, cfg.Log, func() (any, error) {
		account, region := cfg.Account, cfg.Region
		if account == "" {
			account = hearth.DefaultAccount
		}
		if region == "" {
			region = hearth.DefaultRegion
		}
		id, secret := make([]byte, 10), make([]byte, 30)
		if _, err := io.ReadFull(cfg.Rand, id); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(cfg.Rand, secret); err != nil {
			return nil, err
		}
		return credentialsJSON{
			Version: fileVersion, Account: string(account), Region: region,
			AccessKeyID:     "AKIA" + base32.StdEncoding.EncodeToString(id),
			SecretAccessKey: base64.StdEncoding.EncodeToString(secret),
		}, nil
	})
	if err != nil {
		return Root{}, err
	}
	path := filepath.Join(cfg.Dir, CredentialsFile)
	root, err := decodeRoot(data)
	switch {
	case err != nil:
		return Root{}, fmt.Errorf("%s: %w", path, err)
	case cfg.Account != "" && cfg.Account != root.Account:
		return Root{}, fmt.Errorf("the data folder %s belongs to account %s, not %s: leave the account out, or use another folder", cfg.Dir, root.Account, cfg.Account)
	case cfg.Region != "" && cfg.Region != root.Region:
		return Root{}, fmt.Errorf("the data folder %s is of region %s, not %s: leave the region out, or use another folder", cfg.Dir, root.Region, cfg.Region)
	}
	return root, nil
}

// Root returns the account and its root credentials.
func (a *Authority) Root() Root { return a.root }

// Since is when the account was made: the time of its credentials' file, to
// the second.
func (a *Authority) Since() time.Time { return a.since }

// Key returns the key that seals secrets at rest.
func (a *Authority) Key() *Key { return a.key }

// Master tells of the master key and the data keys what is not secret.
func (a *Authority) Master() MasterInfo {
	a.changing.Lock()
	defer a.changing.Unlock()
	return a.data.Info()
}

// Keys returns the keys that the server's owner made for functions.
func (a *Authority) Keys() *Keyring { return a.keys }

// Format shows the account and no secret.
func (a *Authority) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "authority of account "+string(a.root.Account))
}

// invalidToken is what AWS answers for a key that it does not know.
func invalidToken() error {
	return hearth.Errorf(hearth.UnrecognizedClient, "The security token included in the request is invalid.")
}

// Lookup returns the secret that requests of accessKeyID are signed with, and
// whose they are. sessionToken is "" for a long-lived key. Errors:
// UnrecognizedClient, ExpiredToken for a session that has ended; AccessDenied,
// which comes with the secret and whose it is, for an account that is suspended:
// what that says is for nobody who has no key of it.
func (a *Authority) Lookup(accessKeyID, sessionToken string) (secret string, id hearth.Identity, err error) {
	d := a.directory()
	switch {
	case sessionToken != "":
		secret, id, err = a.sessions.lookup(accessKeyID, sessionToken)
	case accessKeyID == a.root.AccessKeyID:
		return a.root.SecretAccessKey.Reveal(), a.rootIdentity, nil
	default:
		ok := false
		if d != nil {
			secret, id, ok = d.FindKey(accessKeyID)
		}
		if !ok {
			err = invalidToken()
		}
	}
	if err == nil && d != nil {
		err = d.Usable(id.Account)
	}
	if err != nil && hearth.KindOf(err) != hearth.AccessDenied {
		return "", hearth.Identity{}, err
	}
	return secret, id, err
}
