package iam

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// Group is users who may do the same. Its JSON is what is on disk, under its
// id; who is in it the users know.
type Group struct {
	Account hearth.Account `json:"account"`
	Name    string         `json:"name"`
	Path    string         `json:"path"`
	ID      string         `json:"id"` // AGPA…, never used again
	Created time.Time      `json:"created"`
	Grants
}

// ARN names the group.
func (g *Group) ARN() string {
	return "arn:aws:iam::" + string(g.Account) + ":group" + g.Path + g.Name
}

func noGroup(name string) error {
	return hearth.Errorf(hearth.NoSuchEntity, "The group with name %s cannot be found.", name)
}

// Group is the group of a name. Errors: NoSuchEntity.
func (d *Directory) Group(account hearth.Account, name string) (*Group, error) {
	for _, g := range d.groups.Scan(string(account)+"/", "") {
		if strings.EqualFold(g.Name, name) {
			return g, nil
		}
	}
	return nil, noGroup(name)
}

// Groups are the account's groups under a path, by name.
func (d *Directory) Groups(account hearth.Account, path string) (all []*Group) {
	for _, g := range d.groups.Scan(string(account)+"/", "") {
		if strings.HasPrefix(g.Path, path) {
			all = append(all, g)
		}
	}
	slices.SortFunc(all, func(a, b *Group) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// GroupsOf are the groups that a user is in, by name.
func (d *Directory) GroupsOf(u *User) (all []*Group) {
	for _, id := range u.Groups {
		if g := d.groups.Get(byID(u.Account, id)); g != nil {
			all = append(all, g)
		}
	}
	slices.SortFunc(all, func(a, b *Group) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Members are the users in a group, by name.
func (d *Directory) Members(g *Group) (all []*User) {
	for _, u := range d.Users(g.Account, "") {
		if _, in := slices.BinarySearch(u.Groups, g.ID); in {
			all = append(all, u)
		}
	}
	return all
}

// CreateGroup makes a group. Errors: EntityExists, LimitExceeded.
func (d *Directory) CreateGroup(ctx context.Context, account hearth.Account, name, path string) (*Group, error) {
	id, err := d.newID("AGPA")
	if err != nil {
		return nil, err
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	switch _, err := d.Group(account, name); {
	case err == nil:
		return nil, hearth.Errorf(hearth.EntityExists, "Group with name %s already exists.", name)
	case len(d.Groups(account, "")) >= MaxGroups:
		return nil, hearth.Errorf(hearth.LimitExceeded, "Cannot exceed quota for GroupsPerAccount: %d", MaxGroups)
	}
	defer d.changed()
	return d.groups.Change(ctx, byID(account, id), func(*Group) (*Group, error) {
		return &Group{Account: account, Name: name, Path: cmp.Or(path, defaultPath), ID: id, Created: d.now()}, nil
	})
}

// changeGroup changes a copy of a group; nil is that it is no more.
func (d *Directory) changeGroup(ctx context.Context, account hearth.Account, name string, change func(*Group) (*Group, error)) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	g, err := d.Group(account, name)
	if err != nil {
		return err
	}
	defer d.changed()
	_, err = d.groups.Change(ctx, byID(account, g.ID), func(old *Group) (*Group, error) {
		g := *old
		return change(&g)
	})
	return err
}

func (d *Directory) alterGroup(ctx context.Context, account hearth.Account, name string, change func(*Group) error) error {
	return d.changeGroup(ctx, account, name, func(g *Group) (*Group, error) { return g, change(g) })
}

// UpdateGroup gives a group another name or path; "" is that which it has.
// Errors: NoSuchEntity, EntityExists.
func (d *Directory) UpdateGroup(ctx context.Context, account hearth.Account, name, newName, newPath string) error {
	return d.alterGroup(ctx, account, name, func(g *Group) error {
		if other, err := d.Group(account, newName); newName != "" && err == nil && other.ID != g.ID {
			return hearth.Errorf(hearth.EntityExists, "Group with name %s already exists.", newName)
		}
		g.Name, g.Path = cmp.Or(newName, g.Name), cmp.Or(newPath, g.Path)
		return nil
	})
}

// DeleteGroup deletes a group. Errors: NoSuchEntity, DeleteConflict for one
// that has users or policies.
func (d *Directory) DeleteGroup(ctx context.Context, account hearth.Account, name string) error {
	return d.changeGroup(ctx, account, name, func(g *Group) (*Group, error) {
		if len(d.Members(g)) > 0 {
			return nil, hearth.Errorf(hearth.DeleteConflict, "Cannot delete entity, must remove users from group first.")
		}
		return nil, g.empty()
	})
}

// Join puts a user into a group; that it is in it already is no error. Errors:
// NoSuchEntity, LimitExceeded.
func (d *Directory) Join(ctx context.Context, account hearth.Account, group, user string) error {
	return d.alterUser(ctx, account, user, func(u *User) error {
		g, err := d.Group(account, group)
		if err != nil {
			return err
		}
		i, in := slices.BinarySearch(u.Groups, g.ID)
		switch {
		case in:
			return nil
		case len(u.Groups) >= MaxGroupsOfUser:
			return hearth.Errorf(hearth.LimitExceeded, "Cannot exceed quota for GroupsPerUser: %d", MaxGroupsOfUser)
		}
		u.Groups = slices.Insert(slices.Clone(u.Groups), i, g.ID)
		return nil
	})
}

// Leave takes a user out of a group. Errors: NoSuchEntity.
func (d *Directory) Leave(ctx context.Context, account hearth.Account, group, user string) error {
	return d.alterUser(ctx, account, user, func(u *User) error {
		g, err := d.Group(account, group)
		if err != nil {
			return err
		}
		i, in := slices.BinarySearch(u.Groups, g.ID)
		if !in {
			return hearth.Errorf(hearth.NoSuchEntity, "The user with name %s is not in group %s.", user, group)
		}
		u.Groups = slices.Delete(slices.Clone(u.Groups), i, i+1)
		return nil
	})
}

// PutGroupPolicy sets an inline policy of a group. Errors: NoSuchEntity,
// MalformedPolicy, LimitExceeded.
func (d *Directory) PutGroupPolicy(ctx context.Context, account hearth.Account, name string, p Inline) error {
	if err := checkInline(p); err != nil {
		return err
	}
	return d.alterGroup(ctx, account, name, func(g *Group) error { return g.put(p, "group", g.Name, MaxGroupInlineSize) })
}

// DeleteGroupPolicy deletes an inline policy of a group. Errors: NoSuchEntity.
func (d *Directory) DeleteGroupPolicy(ctx context.Context, account hearth.Account, name, of string) error {
	return d.alterGroup(ctx, account, name, func(g *Group) error { return g.drop("group", of) })
}

// AttachToGroup attaches a managed policy to a group. Errors: NoSuchEntity,
// InvalidInput, LimitExceeded.
func (d *Directory) AttachToGroup(ctx context.Context, account hearth.Account, name, arn string) error {
	return d.alterGroup(ctx, account, name, func(g *Group) error {
		if err := d.attachable(account, arn); err != nil {
			return err
		}
		return g.attach(arn, "PoliciesPerGroup")
	})
}

// DetachFromGroup detaches a managed policy from a group. Errors: NoSuchEntity.
func (d *Directory) DetachFromGroup(ctx context.Context, account hearth.Account, name, arn string) error {
	return d.alterGroup(ctx, account, name, func(g *Group) error { return g.detach(arn) })
}
