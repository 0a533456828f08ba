package iam

import (
	"context"
	crand "crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"io"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"unicode"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/table"
)

// Bounds, as IAM has them where nobody asked for more.
const (
	MaxRoles           = 1000  // of an account
	MaxPolicies        = 1500  // of an account, managed
	MaxVersions        = 5     // of a managed policy
	MaxAttached        = 10    // managed policies of a role
	MaxTags            = 50    // of a role or policy
	MaxTrustSize       = 2048  // characters of a role's trust policy, without white space
	MaxInlineSize      = 10240 // characters of all inline policies of a role, without white space
	MaxManagedSize     = 6144  // characters of a managed policy, without white space
	MinSession         = 3600  // seconds, of a role's MaxSession
	MaxSession         = 43200
	DefaultSession     = 3600
	defaultPath        = "/"
	policiesAreUnknown = "does not exist or is not attachable."
)

// Config is what a Directory works with.
type Config struct {
	Store store.Store
	Clock hearth.Clock
	// Strict refuses to a function a role that the Directory does not have.
	Strict bool
	// Changed is told after each change of what somebody may do or is called;
	// nil is nobody. It must not call the Directory's changes.
	Changed func()
	Rand    io.Reader    // nil is crypto/rand
	Log     *slog.Logger // nil is slog.Default
}

// Directory keeps roles and policies. What it hands out is shared and must not
// be changed. Safe for concurrent use.
type Directory struct {
	cfg      Config
	roles    *table.Table[Role]
	policies *table.Table[Policy]
	users    *table.Table[User]
	groups   *table.Table[Group]

	// changing is held by every change, so that one that concerns a role and
	// a policy sees both as they stay.
	changing sync.Mutex

	uses        uses
	permissions permissions
}

// Open reads the roles and policies.
func Open(ctx context.Context, cfg Config) (*Directory, error) {
	if cfg.Rand == nil {
		cfg.Rand = crand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	d := &Directory{cfg: cfg}
	var err error
	if d.roles, err = table.Open[Role](ctx, cfg.Store, "roles"); err != nil {
		return nil, err
	}
	if d.policies, err = table.Open[Policy](ctx, cfg.Store, "policies"); err != nil {
		return nil, err
	}
	if d.users, err = table.Open[User](ctx, cfg.Store, "users"); err != nil {
		return nil, err
	}
	if d.groups, err = table.Open[Group](ctx, cfg.Store, "groups"); err != nil {
		return nil, err
	}
	return d, nil
}

// Close waits for what is still written.
func (d *Directory) Close() error {
	d.uses.pending.Wait()
	return nil
}

// key is the record of a name: names that differ in their case alone are the
// same.
func key(account hearth.Account, name string) string {
	return string(account) + "/" + strings.ToLower(name)
}

// newID makes a unique id, such as AROA and seventeen characters.
func (d *Directory) newID(prefix string) (string, error) {
	b := make([]byte, 11)
	if _, err := io.ReadFull(d.cfg.Rand, b); err != nil {
		return "", err
	}
	return prefix + base32.StdEncoding.EncodeToString(b)[:17], nil
}

// Page selects a page of a list.
type Page struct {
	Path   string // prefix of the paths of what is listed; "" is all
	Marker string // of the page before
	Max    int    // 0 is 100
}

// page collects a page of what keep takes from a table. The marker of the next
// page is "" at the end.
func page[T any](of iter.Seq2[string, *T], p Page, prefix string, keep func(*T) bool) (items []*T, next string) {
	last := ""
	for k, v := range of {
		if !keep(v) {
			continue
		}
		if len(items) == p.max() {
			return items, base64.URLEncoding.EncodeToString([]byte(strings.TrimPrefix(last, prefix)))
		}
		items, last = append(items, v), k
	}
	return items, ""
}

func (p Page) max() int {
	if p.Max == 0 {
		return 100
	}
	return p.Max
}

// after is the key that the marker stands for.
func (p Page) after(prefix string) (string, error) {
	if p.Marker == "" {
		return "", nil
	}
	b, err := base64.URLEncoding.DecodeString(p.Marker)
	if err != nil || len(b) == 0 {
		return "", hearth.Errorf(hearth.Validation, "Invalid Marker.")
	}
	return prefix + string(b), nil
}

// Slice is the page of a list that is in memory as a whole, by its names.
func Slice[T any](all []T, p Page, name func(T) string) (items []T, next string, err error) {
	after, err := p.after("")
	if err != nil {
		return nil, "", err
	}
	for _, v := range all {
		if after != "" && name(v) <= after {
			continue
		}
		if len(items) == p.max() {
			return items, base64.URLEncoding.EncodeToString([]byte(name(items[len(items)-1]))), nil
		}
		items = append(items, v)
	}
	return items, "", nil
}

// size is how long a document is, as quotas count: without white space.
func size(document string) (n int) {
	for _, r := range document {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}

// Names are the account's users, groups, roles and policies, for whoever wants to know whether
// it has any.
func (d *Directory) Names(account hearth.Account) (all []string) {
	for _, r := range d.roles.Scan(string(account)+"/", "") {
		all = append(all, "role "+r.Name)
	}
	for _, p := range d.policies.Scan(string(account)+"/", "") {
		all = append(all, "policy "+p.Name)
	}
	for _, u := range d.Users(account, "") {
		all = append(all, "user "+u.Name)
	}
	for _, g := range d.Groups(account, "") {
		all = append(all, "group "+g.Name)
	}
	return all
}

// Clear deletes all that an account has. It may be called again where it
// stopped.
func (d *Directory) Clear(ctx context.Context, account hearth.Account) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	defer d.changed()
	return errors.Join(clearOf(ctx, d.users, account), clearOf(ctx, d.groups, account), clearOf(ctx, d.roles, account), clearOf(ctx, d.policies, account))
}

func clearOf[T any](ctx context.Context, t *table.Table[T], account hearth.Account) error {
	var keys []string
	for k := range t.Scan(string(account)+"/", "") {
		keys = append(keys, k)
	}
	for _, k := range keys {
		if _, err := t.Change(ctx, k, func(*T) (*T, error) { return nil, nil }); err != nil {
			return err
		}
	}
	return nil
}
