package iam

import (
	"cmp"
	"context"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
)

// Role is who code can be. Its JSON is what is on disk.
type Role struct {
	Account     hearth.Account `json:"account"`
	Name        string         `json:"name"`
	Path        string         `json:"path"` // begins and ends with a slash
	ID          string         `json:"id"`   // AROA…, never used again
	Description string         `json:"description,omitempty"`
	Trust       string         `json:"trust"`      // the document that says who may take it on, as it was given
	MaxSession  int            `json:"maxSession"` // seconds
	Created     time.Time      `json:"created"`
	Boundary    string         `json:"boundary,omitempty"` // ARN of a managed policy
	Tags        []Tag          `json:"tags,omitempty"`     // by key
	Used        time.Time      `json:"used,omitzero"`      // when it was last taken on, to some minutes
	Grants
}

// Inline is a policy that belongs to one role, user or group.
type Inline struct {
	Name     string `json:"name"`
	Document string `json:"document"` // as it was given
}

// ARN names the role.
func (r *Role) ARN() string { return "arn:aws:iam::" + string(r.Account) + ":role" + r.Path + r.Name }

// NewRole is a role that is to be made.
type NewRole struct {
	Name        string
	Path        string // "" is /
	Description string
	Trust       string
	MaxSession  int // seconds; 0 is DefaultSession
	Boundary    string
	Tags        []Tag
}

func noRole(name string) error {
	return hearth.Errorf(hearth.NoSuchEntity, "The role with name %s cannot be found.", name)
}

// CreateRole makes a role. Errors: EntityExists, MalformedPolicy,
// LimitExceeded, InvalidInput, NoSuchEntity for the boundary.
func (d *Directory) CreateRole(ctx context.Context, account hearth.Account, n NewRole) (*Role, error) {
	if err := checkTrust(n.Trust); err != nil {
		return nil, err
	}
	tags, err := tagged(nil, n.Tags)
	if err != nil {
		return nil, err
	}
	id, err := d.newID("AROA")
	if err != nil {
		return nil, err
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	if n.Boundary != "" {
		if err := d.attachable(account, n.Boundary); err != nil {
			return nil, err
		}
	}
	defer d.changed()
	count := 0
	for range d.roles.Scan(string(account)+"/", "") {
		count++
	}
	return d.roles.Change(ctx, key(account, n.Name), func(old *Role) (*Role, error) {
		switch {
		case old != nil:
			return nil, hearth.Errorf(hearth.EntityExists, "Role with name %s already exists.", n.Name)
		case count >= MaxRoles:
			return nil, hearth.Errorf(hearth.LimitExceeded, "Cannot exceed quota for RolesPerAccount: %d", MaxRoles)
		}
		return &Role{
			Account: account, Name: n.Name, Path: cmp.Or(n.Path, defaultPath), ID: id,
			Description: n.Description, Trust: n.Trust, MaxSession: cmp.Or(n.MaxSession, DefaultSession),
			Created: d.cfg.Clock.Now().UTC().Truncate(time.Second), Boundary: n.Boundary, Tags: tags,
		}, nil
	})
}

// Role is the role of a name. Errors: NoSuchEntity.
func (d *Directory) Role(account hearth.Account, name string) (*Role, error) {
	if r := d.roles.Get(key(account, name)); r != nil {
		return r, nil
	}
	return nil, noRole(name)
}

// RoleOf is the role of an ARN, or nil.
func (d *Directory) RoleOf(arn string) *Role {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || !strings.HasPrefix(parts[5], "role/") {
		return nil
	}
	r := d.roles.Get(key(hearth.Account(parts[4]), parts[5][strings.LastIndexByte(parts[5], '/')+1:]))
	if r == nil || r.ARN() != arn {
		return nil
	}
	return r
}

// Roles lists an account's roles by name.
func (d *Directory) Roles(account hearth.Account, p Page) (roles []*Role, next string, err error) {
	prefix := string(account) + "/"
	after, err := p.after(prefix)
	if err != nil {
		return nil, "", err
	}
	roles, next = page(d.roles.Scan(prefix, after), p, prefix, func(r *Role) bool { return strings.HasPrefix(r.Path, p.Path) })
	return roles, next, nil
}

// changeRole changes a copy of a role.
func (d *Directory) changeRole(ctx context.Context, account hearth.Account, name string, change func(*Role) error) (*Role, error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	defer d.changed()
	return d.roles.Change(ctx, key(account, name), func(old *Role) (*Role, error) {
		if old == nil {
			return nil, noRole(name)
		}
		r := *old
		if err := change(&r); err != nil {
			return nil, err
		}
		return &r, nil
	})
}

// UpdateRole changes what is not nil. Errors: NoSuchEntity.
func (d *Directory) UpdateRole(ctx context.Context, account hearth.Account, name string, description *string, maxSession *int) (*Role, error) {
	return d.changeRole(ctx, account, name, func(r *Role) error {
		if description != nil {
			r.Description = *description
		}
		if maxSession != nil {
			r.MaxSession = *maxSession
		}
		return nil
	})
}

// SetTrust replaces the document that says who may take the role on. Errors:
// NoSuchEntity, MalformedPolicy, LimitExceeded.
func (d *Directory) SetTrust(ctx context.Context, account hearth.Account, name, document string) error {
	if err := checkTrust(document); err != nil {
		return err
	}
	_, err := d.changeRole(ctx, account, name, func(r *Role) error {
		r.Trust = document
		return nil
	})
	return err
}

func checkTrust(document string) error {
	if err := checkDocument(document, policy.Trust); err != nil {
		return err
	}
	if size(document) > MaxTrustSize {
		return hearth.Errorf(hearth.LimitExceeded, "Cannot exceed quota for ACLSizePerRole: %d", MaxTrustSize)
	}
	return nil
}

// checkDocument tells whether a document is in order as a policy of the kind.
func checkDocument(document string, kind policy.Kind) error {
	parsed, err := policy.Parse([]byte(document))
	if err == nil {
		err = parsed.Check(kind)
	}
	if err != nil {
		return hearth.Errorf(hearth.MalformedPolicy, "%s", err)
	}
	return nil
}

// SetBoundary makes a managed policy the role's permissions boundary; "" is
// none. Errors: NoSuchEntity.
func (d *Directory) SetBoundary(ctx context.Context, account hearth.Account, name, arn string) error {
	_, err := d.changeRole(ctx, account, name, func(r *Role) error {
		if arn != "" {
			if err := d.attachable(account, arn); err != nil {
				return err
			}
		} else if r.Boundary == "" {
			return hearth.Errorf(hearth.NoSuchEntity, "The role with name %s does not have a permissions boundary.", name)
		}
		r.Boundary = arn
		return nil
	})
	return err
}

// DeleteRole deletes a role. Errors: NoSuchEntity, DeleteConflict for one that
// has policies.
func (d *Directory) DeleteRole(ctx context.Context, account hearth.Account, name string) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	defer d.changed()
	_, err := d.roles.Change(ctx, key(account, name), func(r *Role) (*Role, error) {
		if r == nil {
			return nil, noRole(name)
		}
		return nil, r.empty()
	})
	return err
}

// TagRole adds tags. Errors: NoSuchEntity, InvalidInput, LimitExceeded.
func (d *Directory) TagRole(ctx context.Context, account hearth.Account, name string, tags []Tag) error {
	_, err := d.changeRole(ctx, account, name, func(r *Role) (err error) {
		r.Tags, err = tagged(r.Tags, tags)
		return err
	})
	return err
}

// UntagRole removes tags. Errors: NoSuchEntity.
func (d *Directory) UntagRole(ctx context.Context, account hearth.Account, name string, keys []string) error {
	_, err := d.changeRole(ctx, account, name, func(r *Role) error {
		r.Tags = untagged(r.Tags, keys)
		return nil
	})
	return err
}
