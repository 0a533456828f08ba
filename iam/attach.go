package iam

import (
	"context"
	"slices"
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

// attachable tells whether a managed policy can be attached in the account.
func (d *Directory) attachable(account hearth.Account, arn string) error {
	_, err := d.Policy(account, arn)
	if hearth.KindOf(err) == hearth.NoSuchEntity {
		return hearth.Errorf(hearth.NoSuchEntity, "Policy %s %s", arn, policiesAreUnknown)
	}
	return err
}

// Attach attaches a managed policy to a role; that it is attached already is
// no error. Errors: NoSuchEntity, InvalidInput, LimitExceeded.
func (d *Directory) Attach(ctx context.Context, account hearth.Account, role, arn string) error {
	_, err := d.changeRole(ctx, account, role, func(r *Role) error {
		if err := d.attachable(account, arn); err != nil {
			return err
		}
		return r.attach(arn, "PoliciesPerRole")
	})
	return err
}

// Detach detaches a managed policy from a role. Errors: NoSuchEntity.
func (d *Directory) Detach(ctx context.Context, account hearth.Account, role, arn string) error {
	_, err := d.changeRole(ctx, account, role, func(r *Role) error { return r.detach(arn) })
	return err
}

// Uses are those of an account that have a managed policy attached, and those
// whose boundary it is, each by name.
type Uses struct {
	Roles, BoundedRoles []*Role
	Users, BoundedUsers []*User
	Groups              []*Group
}

// Attached is how many have the policy attached.
func (u *Uses) Attached() int { return len(u.Roles) + len(u.Users) + len(u.Groups) }

// Bounded is whose boundary the policy is: how many they are.
func (u *Uses) Bounded() int { return len(u.BoundedRoles) + len(u.BoundedUsers) }

// Uses are those who use a managed policy.
func (d *Directory) Uses(account hearth.Account, arn string) *Uses {
	uses := &Uses{}
	has := func(attached []string) bool { _, found := slices.BinarySearch(attached, arn); return found }
	for _, r := range d.roles.Scan(string(account)+"/", "") {
		if has(r.Attached) {
			uses.Roles = append(uses.Roles, r)
		}
		if r.Boundary == arn {
			uses.BoundedRoles = append(uses.BoundedRoles, r)
		}
	}
	for _, u := range d.Users(account, "") {
		if has(u.Attached) {
			uses.Users = append(uses.Users, u)
		}
		if u.Boundary == arn {
			uses.BoundedUsers = append(uses.BoundedUsers, u)
		}
	}
	for _, g := range d.Groups(account, "") {
		if has(g.Attached) {
			uses.Groups = append(uses.Groups, g)
		}
	}
	return uses
}

// nameOf is the last part of an ARN of a policy or role.
func nameOf(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
