package iam

import (
	"context"
	"slices"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
)

// PutInline sets an inline policy of a role. Errors: NoSuchEntity,
// MalformedPolicy, LimitExceeded.
func (d *Directory) PutInline(ctx context.Context, account hearth.Account, role string, p Inline) error {
	if err := checkDocument(p.Document, policy.Identity); err != nil {
		return err
	}
	_, err := d.changeRole(ctx, account, role, func(r *Role) error {
		r.Inline = slices.Clone(r.Inline)
		i, found := r.inline(p.Name)
		if found {
			r.Inline[i] = p
		} else {
			r.Inline = slices.Insert(r.Inline, i, p)
		}
		total := 0
		for _, p := range r.Inline {
			total += size(p.Document)
		}
		if total > MaxInlineSize {
			return hearth.Errorf(hearth.LimitExceeded, "Maximum policy size of %d bytes exceeded for role %s", MaxInlineSize, r.Name)
		}
		return nil
	})
	return err
}

// inline finds an inline policy, or where it would be.
func (r *Role) inline(name string) (int, bool) {
	return slices.BinarySearchFunc(r.Inline, name, func(p Inline, name string) int { return strings.Compare(p.Name, name) })
}

func noInline(name string) error {
	return hearth.Errorf(hearth.NoSuchEntity, "The role policy with name %s cannot be found.", name)
}

// Inline is an inline policy of a role. Errors: NoSuchEntity.
func (d *Directory) Inline(account hearth.Account, role, name string) (Inline, error) {
	r, err := d.Role(account, role)
	if err != nil {
		return Inline{}, err
	}
	i, found := r.inline(name)
	if !found {
		return Inline{}, noInline(name)
	}
	return r.Inline[i], nil
}

// DeleteInline deletes an inline policy of a role. Errors: NoSuchEntity.
func (d *Directory) DeleteInline(ctx context.Context, account hearth.Account, role, name string) error {
	_, err := d.changeRole(ctx, account, role, func(r *Role) error {
		i, found := r.inline(name)
		if !found {
			return noInline(name)
		}
		r.Inline = slices.Delete(slices.Clone(r.Inline), i, i+1)
		return nil
	})
	return err
}
