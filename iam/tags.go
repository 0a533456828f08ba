package iam

import (
	"slices"
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

// Tag is a tag of a role or policy.
type Tag struct {
	Key   string `json:"k"`
	Value string `json:"v"`
}

// tagged adds tags to those that are there. Keys that differ in their case
// alone are the same; the newer one stays.
func tagged(have, add []Tag) ([]Tag, error) {
	for i, t := range add {
		switch {
		case strings.HasPrefix(strings.ToLower(t.Key), "aws:"):
			return nil, hearth.Errorf(hearth.InvalidInput, "Tag keys beginning with aws: are reserved for system use.")
		case slices.ContainsFunc(add[:i], t.same):
			return nil, hearth.Errorf(hearth.InvalidInput, "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
	}
	all := slices.Clone(have)
	for _, t := range add {
		if i := slices.IndexFunc(all, t.same); i >= 0 {
			all[i] = t
		} else {
			all = append(all, t)
		}
	}
	if len(all) > MaxTags {
		return nil, hearth.Errorf(hearth.LimitExceeded, "The number of tags has reached the maximum limit.")
	}
	slices.SortFunc(all, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
	return all, nil
}

func (t Tag) same(o Tag) bool { return strings.EqualFold(t.Key, o.Key) }

// untagged removes the tags with the keys.
func untagged(have []Tag, keys []string) []Tag {
	return slices.DeleteFunc(slices.Clone(have), func(t Tag) bool {
		return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, t.Key) })
	})
}
