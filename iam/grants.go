package iam

import (
	"slices"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
)

// Grants are the policies that a user, a group or a role has. Its JSON is what is on
// disk.
type Grants struct {
	Inline   []Inline `json:"inline,omitempty"`   // by name
	Attached []string `json:"attached,omitempty"` // ARNs of managed policies, sorted
}

// find finds an inline policy, or where it would be.
func (g *Grants) find(name string) (int, bool) {
	return slices.BinarySearchFunc(g.Inline, name, func(p Inline, name string) int { return strings.Compare(p.Name, name) })
}

// Named is the inline policy of a name. what is whose it is: user, group or role.
// Errors: NoSuchEntity.
func (g *Grants) Named(what, name string) (Inline, error) {
	i, found := g.find(name)
	if !found {
		return Inline{}, noInlineOf(what, name)
	}
	return g.Inline[i], nil
}

func noInlineOf(what, name string) error {
	return hearth.Errorf(hearth.NoSuchEntity, "The %s policy with name %s cannot be found.", what, name)
}

// checkInline tells whether an inline policy is in order.
func checkInline(p Inline) error { return checkDocument(p.Document, policy.Identity) }

// put sets an inline policy, of which all together have at most max characters.
func (g *Grants) put(p Inline, what, owner string, max int) error {
	g.Inline = slices.Clone(g.Inline)
	if i, found := g.find(p.Name); found {
		g.Inline[i] = p
	} else {
		g.Inline = slices.Insert(g.Inline, i, p)
	}
	total := 0
	for _, p := range g.Inline {
		total += size(p.Document)
	}
	if total > max {
		return hearth.Errorf(hearth.LimitExceeded, "Maximum policy size of %d bytes exceeded for %s %s", max, what, owner)
	}
	return nil
}

func (g *Grants) drop(what, name string) error {
	i, found := g.find(name)
	if !found {
		return noInlineOf(what, name)
	}
	g.Inline = slices.Delete(slices.Clone(g.Inline), i, i+1)
	return nil
}

func (g *Grants) attach(arn, quota string) error {
	i, found := slices.BinarySearch(g.Attached, arn)
	switch {
	case found:
		return nil
	case len(g.Attached) >= MaxAttached:
		return hearth.Errorf(hearth.LimitExceeded, "Cannot exceed quota for %s: %d", quota, MaxAttached)
	}
	g.Attached = slices.Insert(slices.Clone(g.Attached), i, arn)
	return nil
}

func (g *Grants) detach(arn string) error {
	i, found := slices.BinarySearch(g.Attached, arn)
	if !found {
		return noPolicy(arn)
	}
	g.Attached = slices.Delete(slices.Clone(g.Attached), i, i+1)
	return nil
}

// empty tells whether its owner may be deleted.
func (g *Grants) empty() error {
	switch {
	case len(g.Attached) > 0:
		return hearth.Errorf(hearth.DeleteConflict, "Cannot delete entity, must detach all policies first.")
	case len(g.Inline) > 0:
		return hearth.Errorf(hearth.DeleteConflict, "Cannot delete entity, must delete policies first.")
	}
	return nil
}
