package iam

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// User is a person or a program with access keys of its own. Its JSON is what
// is on disk, under its id, so that it may get another name.
type User struct {
	Account  hearth.Account `json:"account"`
	Name     string         `json:"name"`
	Path     string         `json:"path"` // begins and ends with a slash
	ID       string         `json:"id"`   // AIDA…, never used again
	Created  time.Time      `json:"created"`
	Boundary string         `json:"boundary,omitempty"` // ARN of a managed policy
	Groups   []string       `json:"groups,omitempty"`   // ids, sorted
	Tags     []Tag          `json:"tags,omitempty"`     // by key
	Grants
}

// ARN names the user.
func (u *User) ARN() string { return "arn:aws:iam::" + string(u.Account) + ":user" + u.Path + u.Name }

// NewUser is a user that is to be made.
type NewUser struct {
	Name     string
	Path     string // "" is /
	Boundary string
	Tags     []Tag
}

// Bounds of users and groups, as IAM has them.
const (
	MaxUsers           = 5000
	MaxGroups          = 300
	MaxGroupsOfUser    = 10
	MaxUserInlineSize  = 2048
	MaxGroupInlineSize = 5120
)

func noUser(name string) error {
	return hearth.Errorf(hearth.NoSuchEntity, "The user with name %s cannot be found.", name)
}

// byID is the record of what is kept by its id.
func byID(account hearth.Account, id string) string { return string(account) + "/" + id }

// User is the user of a name. Errors: NoSuchEntity.
func (d *Directory) User(account hearth.Account, name string) (*User, error) {
	for _, u := range d.users.Scan(string(account)+"/", "") {
		if strings.EqualFold(u.Name, name) {
			return u, nil
		}
	}
	return nil, noUser(name)
}

// UserByID is the user of an id, or nil.
func (d *Directory) UserByID(account hearth.Account, id string) *User {
	return d.users.Get(byID(account, id))
}

// Users are the account's users under a path, by name.
func (d *Directory) Users(account hearth.Account, path string) (all []*User) {
	for _, u := range d.users.Scan(string(account)+"/", "") {
		if strings.HasPrefix(u.Path, path) {
			all = append(all, u)
		}
	}
	slices.SortFunc(all, func(a, b *User) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// CreateUser makes a user. Errors: EntityExists, LimitExceeded, InvalidInput,
// NoSuchEntity for the boundary.
func (d *Directory) CreateUser(ctx context.Context, account hearth.Account, n NewUser) (*User, error) {
	tags, err := tagged(nil, n.Tags)
	if err != nil {
		return nil, err
	}
	id, err := d.newID("AIDA")
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
	switch _, err := d.User(account, n.Name); {
	case err == nil:
		return nil, hearth.Errorf(hearth.EntityExists, "User with name %s already exists.", n.Name)
	case len(d.Users(account, "")) >= MaxUsers:
		return nil, hearth.Errorf(hearth.LimitExceeded, "Cannot exceed quota for UsersPerAccount: %d", MaxUsers)
	}
	defer d.changed()
	return d.users.Change(ctx, byID(account, id), func(*User) (*User, error) {
		return &User{
			Account: account, Name: n.Name, Path: cmp.Or(n.Path, defaultPath), ID: id, Created: d.now(), Boundary: n.Boundary, Tags: tags,
		}, nil
	})
}

// changeUser changes a copy of a user; nil is that it is no more.
func (d *Directory) changeUser(ctx context.Context, account hearth.Account, name string, change func(*User) (*User, error)) (*User, error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	u, err := d.User(account, name)
	if err != nil {
		return nil, err
	}
	defer d.changed()
	return d.users.Change(ctx, byID(account, u.ID), func(old *User) (*User, error) {
		u := *old
		return change(&u)
	})
}

// alterUser is changeUser for what leaves a user.
func (d *Directory) alterUser(ctx context.Context, account hearth.Account, name string, change func(*User) error) error {
	_, err := d.changeUser(ctx, account, name, func(u *User) (*User, error) { return u, change(u) })
	return err
}

// UpdateUser gives a user another name or path; "" is that which it has.
// Errors: NoSuchEntity, EntityExists.
func (d *Directory) UpdateUser(ctx context.Context, account hearth.Account, name, newName, newPath string) error {
	return d.alterUser(ctx, account, name, func(u *User) error {
		if other, err := d.User(account, newName); newName != "" && err == nil && other.ID != u.ID {
			return hearth.Errorf(hearth.EntityExists, "User with name %s already exists.", newName)
		}
		u.Name, u.Path = cmp.Or(newName, u.Name), cmp.Or(newPath, u.Path)
		return nil
	})
}

// DeleteUser deletes a user. Errors: NoSuchEntity, DeleteConflict for one that
// has policies or is in groups.
func (d *Directory) DeleteUser(ctx context.Context, account hearth.Account, name string) error {
	_, err := d.changeUser(ctx, account, name, func(u *User) (*User, error) {
		if len(u.Groups) > 0 {
			return nil, hearth.Errorf(hearth.DeleteConflict, "Cannot delete entity, must remove users from group first.")
		}
		return nil, u.empty()
	})
	return err
}

// SetUserBoundary makes a managed policy the user's permissions boundary; "" is
// none. Errors: NoSuchEntity, InvalidInput.
func (d *Directory) SetUserBoundary(ctx context.Context, account hearth.Account, name, arn string) error {
	return d.alterUser(ctx, account, name, func(u *User) error {
		if arn != "" {
			if err := d.attachable(account, arn); err != nil {
				return err
			}
		} else if u.Boundary == "" {
			return hearth.Errorf(hearth.NoSuchEntity, "The user with name %s does not have a permissions boundary.", name)
		}
		u.Boundary = arn
		return nil
	})
}

// PutUserPolicy sets an inline policy of a user. Errors: NoSuchEntity,
// MalformedPolicy, LimitExceeded.
func (d *Directory) PutUserPolicy(ctx context.Context, account hearth.Account, name string, p Inline) error {
	if err := checkInline(p); err != nil {
		return err
	}
	return d.alterUser(ctx, account, name, func(u *User) error { return u.put(p, "user", u.Name, MaxUserInlineSize) })
}

// DeleteUserPolicy deletes an inline policy of a user. Errors: NoSuchEntity.
func (d *Directory) DeleteUserPolicy(ctx context.Context, account hearth.Account, name, of string) error {
	return d.alterUser(ctx, account, name, func(u *User) error { return u.drop("user", of) })
}

// AttachToUser attaches a managed policy to a user. Errors: NoSuchEntity,
// InvalidInput, LimitExceeded.
func (d *Directory) AttachToUser(ctx context.Context, account hearth.Account, name, arn string) error {
	return d.alterUser(ctx, account, name, func(u *User) error {
		if err := d.attachable(account, arn); err != nil {
			return err
		}
		return u.attach(arn, "PoliciesPerUser")
	})
}

// DetachFromUser detaches a managed policy from a user. Errors: NoSuchEntity.
func (d *Directory) DetachFromUser(ctx context.Context, account hearth.Account, name, arn string) error {
	return d.alterUser(ctx, account, name, func(u *User) error { return u.detach(arn) })
}

// TagUser adds tags. Errors: NoSuchEntity, InvalidInput, LimitExceeded.
func (d *Directory) TagUser(ctx context.Context, account hearth.Account, name string, tags []Tag) error {
	return d.alterUser(ctx, account, name, func(u *User) (err error) {
		u.Tags, err = tagged(u.Tags, tags)
		return err
	})
}

// UntagUser removes tags. Errors: NoSuchEntity.
func (d *Directory) UntagUser(ctx context.Context, account hearth.Account, name string, keys []string) error {
	return d.alterUser(ctx, account, name, func(u *User) error {
		u.Tags = untagged(u.Tags, keys)
		return nil
	})
}
