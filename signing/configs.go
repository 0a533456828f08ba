package signing

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/table"
	"github.com/hearth-faas/hearth/tags"
)

// Config is a code signing configuration: whose code a function takes, and
// what happens to other. The JSON names are those on disk. A *Config that was
// handed out is read-only.
type Config struct {
	ID          string            `json:"id"` // csc- and 17 characters
	Account     hearth.Account    `json:"account"`
	Region      string            `json:"region"`
	Description string            `json:"description,omitempty"`
	Publishers  []string          `json:"publishers"` // ARNs of versions of profiles
	Enforce     bool              `json:"enforce,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Modified    time.Time         `json:"modified"`
}

// ARN is the configuration's ARN.
func (c *Config) ARN() string {
	return "arn:aws:lambda:" + c.Region + ":" + string(c.Account) + ":code-signing-config:" + c.ID
}

// Options are what Configs work with. All but Rand and Log are required.
type Options struct {
	Store    store.Store
	Clock    hearth.Clock
	Region   string
	Profiles Profiles
	// Used tells whether some function is under the configuration.
	Used func(account hearth.Account, arn string) bool
	Rand io.Reader    // for IDs; nil is crypto/rand
	Log  *slog.Logger // nil is slog.Default
}

const bucket = "codeSigningConfigs" // account/id → Config

// Configs keep the code signing configurations, and verify code by them. Safe
// for concurrent use.
type Configs struct {
	opt   Options
	table *table.Table[Config]
	// binding is held, for reading, while a function is put under a
	// configuration, so that it is not deleted meanwhile.
	binding sync.RWMutex
}

// Open reads the configurations.
func Open(ctx context.Context, opt Options) (*Configs, error) {
	if opt.Rand == nil {
		opt.Rand = rand.Reader
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	t, err := table.Open[Config](ctx, opt.Store, bucket)
	if err != nil {
		return nil, fmt.Errorf("code signing configurations: %w", err)
	}
	return &Configs{opt: opt, table: t}, nil
}

func key(account hearth.Account, id string) string { return string(account) + "/" + id }

// stored is err as the caller is told it: what is no *hearth.Error is the
// disk's.
func stored(op string, err error) error {
	if _, ok := errors.AsType[*hearth.Error](err); err == nil || ok {
		return err
	}
	return &hearth.Error{Op: "signing." + op, Kind: hearth.Service, Message: "An internal error occurred.", Err: err}
}

func (s *Configs) now() time.Time { return s.opt.Clock.Now().UTC().Round(0) }

// Create makes a configuration of c, whose account, publishers, policy,
// description and tags are set.
func (s *Configs) Create(ctx context.Context, c Config) (*Config, error) {
	err := tags.Check(c.Tags)
	if err != nil {
		return nil, err
	}
	if c.ID, err = s.newID(); err != nil {
		return nil, stored("Create", err)
	}
	c.Region, c.Modified = s.opt.Region, s.now()
	made, err := s.table.Change(ctx, key(c.Account, c.ID), func(*Config) (*Config, error) { return &c, nil })
	return made, stored("Create", err)
}

// newID makes csc- and 17 letters and digits, of 85 random bits.
func (s *Configs) newID() (string, error) {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	b := make([]byte, 17)
	if _, err := io.ReadFull(s.opt.Rand, b); err != nil {
		return "", err
	}
	for i := range b {
		b[i] = alphabet[b[i]&31]
	}
	return "csc-" + string(b), nil
}

func (s *Configs) notFound(account hearth.Account, id string) error {
	c := Config{Account: account, Region: s.opt.Region, ID: id}
	return hearth.Errorf(hearth.NotFound, "The Lambda code signing configuration %s can not be found.", c.ARN())
}

// Get returns a configuration. Errors: ResourceNotFound.
func (s *Configs) Get(account hearth.Account, id string) (*Config, error) {
	if c := s.table.Get(key(account, id)); c != nil {
		return c, nil
	}
	return nil, s.notFound(account, id)
}

// List returns at most max of the account's configurations in the order of
// their IDs, after the given one; more tells whether others follow.
func (s *Configs) List(account hearth.Account, after string, max int) (cs []*Config, more bool) {
	prefix := string(account) + "/"
	if after != "" {
		after = prefix + after
	}
	return s.table.Page(prefix, after, max, nil)
}

// Update changes a configuration: change gets a copy whose fields it may
// replace. Errors: ResourceNotFound.
func (s *Configs) Update(ctx context.Context, account hearth.Account, id string, change func(*Config)) (*Config, error) {
	c, err := s.table.Change(ctx, key(account, id), func(old *Config) (*Config, error) {
		if old == nil {
			return nil, s.notFound(account, id)
		}
		c := *old
		change(&c)
		c.Modified = s.now()
		return &c, nil
	})
	return c, stored("Update", err)
}

// Delete removes a configuration that no function is under. Errors:
// ResourceNotFound, ResourceConflict.
func (s *Configs) Delete(ctx context.Context, account hearth.Account, id string) error {
	s.binding.Lock()
	defer s.binding.Unlock()
	_, err := s.table.Change(ctx, key(account, id), func(old *Config) (*Config, error) {
		switch {
		case old == nil:
			return nil, s.notFound(account, id)
		case s.opt.Used(account, old.ARN()):
			return nil, hearth.Errorf(hearth.Conflict, "The code signing configuration %s is in use: remove it from its functions first.", old.ARN())
		}
		return nil, nil
	})
	return stored("Delete", err)
}

// find returns the configuration with the ARN. Errors:
// CodeSigningConfigNotFound.
func (s *Configs) find(account hearth.Account, arn string) (*Config, error) {
	for _, c := range s.table.Scan(string(account)+"/", "") {
		if c.ARN() == arn {
			return c, nil
		}
	}
	return nil, hearth.Errorf(hearth.NoSigningConfig, "The code signing configuration cannot be found. Check that the provided configuration is not deleted: %s.", arn)
}

// Bind calls bind, which puts something under the configuration with the ARN,
// and sees to it that the configuration is there until it returns. Errors:
// CodeSigningConfigNotFound, those of bind.
func (s *Configs) Bind(account hearth.Account, arn string, bind func() error) error {
	s.binding.RLock()
	defer s.binding.RUnlock()
	if _, err := s.find(account, arn); err != nil {
		return err
	}
	return bind()
}

// Verify checks the archive in r, of what (a function or a layer), by the
// configuration with the ARN. Claims are empty if it is not trusted and that
// is let pass. Errors: CodeSigningConfigNotFound, InvalidCodeSignature,
// CodeVerificationFailed.
func (s *Configs) Verify(ctx context.Context, account hearth.Account, arn, what string, r io.ReaderAt, size int64) (Claims, error) {
	c, err := s.find(account, arn)
	if err != nil {
		return Claims{}, err
	}
	claims, err := s.opt.Profiles.Verify(ctx, r, size, c.Publishers, s.opt.Clock.Now())
	untrusted := errors.Is(err, ErrUnsigned) || errors.Is(err, ErrForeign) || errors.Is(err, ErrUntrusted) || errors.Is(err, ErrExpired)
	switch {
	case err == nil:
		return claims, nil
	case errors.Is(err, ErrTampered):
		return Claims{}, &hearth.Error{Op: "signing.Verify", Subject: what, Kind: hearth.InvalidCode, Err: err,
			Message: "The code signature failed the integrity check: " + err.Error() + "."}
	case untrusted && c.Enforce:
		return Claims{}, &hearth.Error{Op: "signing.Verify", Subject: what, Kind: hearth.UnverifiedCode, Err: err,
			Message: "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is not configured to accept. Check the provided signature for " + what + ": " + err.Error() + "."}
	case untrusted:
		s.opt.Log.Warn("code without a trusted signature was deployed, which its code signing configuration allows", "what", what, "config", arn, "because", err)
		return Claims{}, nil
	}
	return Claims{}, stored("Verify", err)
}

// Tags returns the configuration's tags, which must not be changed. Errors:
// ResourceNotFound.
func (s *Configs) Tags(_ context.Context, account hearth.Account, id string) (map[string]string, error) {
	c, err := s.Get(account, id)
	if err != nil {
		return nil, err
	}
	return c.Tags, nil
}

// Tag sets tags. Errors: ResourceNotFound, InvalidParameterValue if there
// would be too many.
func (s *Configs) Tag(ctx context.Context, account hearth.Account, id string, more map[string]string) error {
	return s.retag(ctx, account, id, func(now map[string]string) (map[string]string, error) { return tags.With(now, more) })
}

// Untag removes tags. Errors: ResourceNotFound.
func (s *Configs) Untag(ctx context.Context, account hearth.Account, id string, keys []string) error {
	return s.retag(ctx, account, id, func(now map[string]string) (map[string]string, error) { return tags.Without(now, keys), nil })
}

func (s *Configs) retag(ctx context.Context, account hearth.Account, id string, change func(map[string]string) (map[string]string, error)) error {
	_, err := s.table.Change(ctx, key(account, id), func(old *Config) (_ *Config, err error) {
		if old == nil {
			return nil, s.notFound(account, id)
		}
		c := *old
		c.Tags, err = change(old.Tags)
		return &c, err
	})
	return stored("retag", err)
}
