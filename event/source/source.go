// Package source keeps event sources that have no ARN of their own: a name for
// a URL such as redis://db.example:6379 or file:///var/incoming, and the secret
// by which one gets in, sealed at rest. The name gives an ARN, which event
// source mappings take as any other.
package source

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/table"
)

// Source is a registered source. The JSON names are those on disk. A *Source
// that was handed out is read-only.
type Source struct {
	Account hearth.Account `json:"account"`
	Name    string         `json:"name"`
	// URL has no password: that is in the secret. "" is a secret alone, for the
	// SourceAccessConfigurations of mappings.
	URL      string    `json:"url,omitempty"`
	Sealed   []byte    `json:"secret,omitempty"`
	Modified time.Time `json:"modified"`
}

// Kind is the kind of the source; "" of a secret alone.
func (s *Source) Kind() event.Kind {
	scheme, _, _ := strings.Cut(s.URL, ":")
	return event.KindOfScheme(scheme)
}

// Sealer seals secrets at rest; see identity.Key.
type Sealer interface {
	Seal(plain, associated []byte) ([]byte, error)
	Open(sealed, associated []byte) ([]byte, error)
}

// Config is what Sources work with. Fields without a default are required.
type Config struct {
	Store  store.Store
	Clock  hearth.Clock
	Region string
	Secret Sealer
	// Used tells whether a mapping reads the source with the ARN; nil is never.
	Used func(account hearth.Account, arn string) bool
	// Changed hears that the source with the ARN is another now; nil is nobody.
	Changed func(account hearth.Account, arn string)
}

const bucket = "eventSources" // account/name → Source

// MaxSecret bounds a secret, in bytes.
const MaxSecret = 64 << 10

// Sources are all registered sources. A change is on disk when it is
// acknowledged. Safe for concurrent use.
type Sources struct {
	cfg   Config
	table *table.Table[Source]
}

// Open reads the sources.
func Open(ctx context.Context, cfg Config) (*Sources, error) {
	t, err := table.Open[Source](ctx, cfg.Store, bucket)
	if err != nil {
		return nil, fmt.Errorf("event sources: %w", err)
	}
	if cfg.Used == nil {
		cfg.Used = func(hearth.Account, string) bool { return false }
	}
	if cfg.Changed == nil {
		cfg.Changed = func(hearth.Account, string) {}
	}
	return &Sources{cfg: cfg, table: t}, nil
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

func key(account hearth.Account, name string) string { return string(account) + "/" + name }

// ARN is the ARN of the account's source with the name.
func (s *Sources) ARN(account hearth.Account, name string) string {
	return event.SourceARN(s.cfg.Region, account, name)
}

func sealedTo(account hearth.Account, name string) []byte {
	return []byte("event source " + key(account, name))
}

func invalid(format string, args ...any) error {
	return hearth.Errorf(hearth.InvalidParameter, format, args...)
}

// Add registers a source, or changes the one that has the name: its URL, which
// keeps its kind, and its secret, which stays as it is if secret is nil. An
// empty secret is none. A password in the URL becomes the secret. Errors:
// InvalidParameterValue.
func (s *Sources) Add(ctx context.Context, account hearth.Account, name, rawURL string, secret []byte) (*Source, error) {
	if !nameForm.MatchString(name) {
		return nil, invalid("%q is no name for an event source: use up to 128 letters, digits, and _ . -, beginning with a letter or a digit.", name)
	}
	if len(secret) > MaxSecret {
		return nil, invalid("The secret has %d bytes; at most %d are kept.", len(secret), MaxSecret)
	}
	now := &Source{Account: account, Name: name, Modified: s.cfg.Clock.Now().UTC().Round(0)}
	if rawURL != "" {
		u, err := check(rawURL)
		if err != nil {
			return nil, err
		}
		if password, has := u.User.Password(); has {
			if secret != nil {
				return nil, invalid("There is a password in the URL and a secret beside it: give one of them.")
			}
			secret = []byte(password)
			u.User = url.User(u.User.Username())
		}
		now.URL = u.String()
	}
	made, err := s.table.Change(ctx, key(account, name), func(old *Source) (_ *Source, err error) {
		if len(secret) > 0 {
			if now.Sealed, err = s.cfg.Secret.Seal(secret, sealedTo(account, name)); err != nil {
				return nil, err
			}
		}
		switch {
		case old == nil && now.URL == "" && now.Sealed == nil:
			return nil, invalid("An event source has a URL, or a secret, or both.")
		case old == nil:
			return now, nil
		case now.URL == "":
			now.URL = old.URL
		case old.URL != "" && now.Kind() != old.Kind():
			return nil, invalid("The source %s is of %s and cannot become one of %s: give the other a name of its own.", name, old.Kind(), now.Kind())
		}
		if secret == nil {
			now.Sealed = old.Sealed
		}
		return now, nil
	})
	if err != nil {
		return nil, err
	}
	s.cfg.Changed(account, s.ARN(account, name))
	return made, nil
}

// check reads a source's URL.
func check(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, invalid("%q is no URL.", strings.SplitN(raw, "@", 2)[0]) // what follows may be a secret's end
	}
	kind := event.KindOfScheme(u.Scheme)
	switch {
	case kind == "":
		return nil, invalid("Nothing here reads %s:// sources; there are %s.", u.Scheme, strings.Join(event.Schemes(), ", "))
	case kind == event.Folder && (u.Host != "" || !strings.HasPrefix(u.Path, "/")):
		return nil, invalid("The URL of a folder is file:// and its whole path, as in file:///var/incoming.")
	case kind == event.PostgreSQL && u.Host == "" && u.Query().Get("host") != "": // the folder of its socket
	case kind != event.Folder && u.Host == "":
		return nil, invalid("The URL %s names no host.", u.Redacted())
	}
	return u, nil
}

// Get returns the account's source with the name. Errors: ResourceNotFound.
func (s *Sources) Get(account hearth.Account, name string) (*Source, error) {
	if one := s.table.Get(key(account, name)); one != nil {
		return one, nil
	}
	return nil, hearth.Errorf(hearth.NotFound, "There is no event source %s; hearth source add %s URL makes one.", name, name)
}

// ByARN is Get by what ARN gives.
func (s *Sources) ByARN(account hearth.Account, arn string) (*Source, error) {
	of, name, ok := event.ParseSourceARN(arn)
	if !ok || of != account {
		return nil, hearth.Errorf(hearth.NotFound, "There is no event source %s in the account.", arn)
	}
	return s.Get(account, name)
}

// List returns the account's sources in the order of their names.
func (s *Sources) List(account hearth.Account) (list []*Source) {
	for _, one := range s.table.Scan(string(account)+"/", "") {
		list = append(list, one)
	}
	return list
}

// Remove forgets a source that no mapping reads. Errors: ResourceNotFound,
// ResourceInUse.
func (s *Sources) Remove(ctx context.Context, account hearth.Account, name string) error {
	_, err := s.table.Change(ctx, key(account, name), func(old *Source) (*Source, error) {
		switch arn := s.ARN(account, name); {
		case old == nil:
			return nil, hearth.Errorf(hearth.NotFound, "There is no event source %s.", name)
		case s.cfg.Used(account, arn):
			return nil, hearth.Errorf(hearth.InUse, "An event source mapping reads %s: delete it first.", arn)
		}
		return nil, nil
	})
	return err
}

// Secret opens a source's secret; nil if it has none.
func (s *Sources) Secret(of *Source) ([]byte, error) {
	if of.Sealed == nil {
		return nil, nil
	}
	return s.cfg.Secret.Open(of.Sealed, sealedTo(of.Account, of.Name))
}
