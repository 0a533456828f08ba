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
		i, found := slices.BinarySearch(r.Attached, arn)
		switch {
		case found:
			return nil
		case len(r.Attached) >= MaxAttached:
			return hearth.Errorf(hearth.LimitExceeded, "Cannot exceed quota for PoliciesPerRole: %d", MaxAttached)
		}
		r.Attached = slices.Insert(slices.Clone(r.Attached), i, arn)
		return nil
	})
	return err
}

// Detach detaches a managed policy from a role. Errors: NoSuchEntity.
func (d *Directory) Detach(ctx context.Context, account hearth.Account, role, arn string) error {
	_, err := d.changeRole(ctx, account, role, func(r *Role) error {
		i, found := slices.BinarySearch(r.Attached, arn)
		if !found {
			return noPolicy(arn)
		}
		r.Attached = slices.Delete(slices.Clone(r.Attached), i, i+1)
		return nil
	})
	return err
}

// Uses are the roles of an account that have a managed policy attached, and
// those whose boundary it is, by name.
func (d *Directory) Uses(account hearth.Account, arn string) (attached, bounded []*Role) {
	for _, r := range d.roles.Scan(string(account)+"/", "") {
		if _, found := slices.BinarySearch(r.Attached, arn); found {
			attached = append(attached, r)
		}
		if r.Boundary == arn {
			bounded = append(bounded, r)
		}
	}
	return attached, bounded
}

// nameOf is the last part of an ARN of a policy or role.
func nameOf(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
