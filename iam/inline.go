package iam

import (
	"context"

	hearth "github.com/hearth-faas/hearth"
)

// PutInline sets an inline policy of a role. Errors: NoSuchEntity,
// MalformedPolicy, LimitExceeded.
func (d *Directory) PutInline(ctx context.Context, account hearth.Account, role string, p Inline) error {
	if err := checkInline(p); err != nil {
		return err
	}
	_, err := d.changeRole(ctx, account, role, func(r *Role) error { return r.put(p, "role", r.Name, MaxInlineSize) })
	return err
}

// Inline is an inline policy of a role. Errors: NoSuchEntity.
func (d *Directory) Inline(account hearth.Account, role, name string) (Inline, error) {
	r, err := d.Role(account, role)
	if err != nil {
		return Inline{}, err
	}
	return r.Named("role", name)
}

// DeleteInline deletes an inline policy of a role. Errors: NoSuchEntity.
func (d *Directory) DeleteInline(ctx context.Context, account hearth.Account, role, name string) error {
	_, err := d.changeRole(ctx, account, role, func(r *Role) error { return r.drop("role", name) })
	return err
}
