package proxy

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/hearth-faas/hearth"
)

// table is which APIs there are. It is replaced as a whole by each change, so that
// finding one takes no lock, and a call goes on with what it found.
type table struct {
	now atomic.Pointer[map[hearth.Account]*routes]
}

// routes are an account's APIs. They never change.
type routes struct {
	byID map[string]*compiled
	// first are the APIs by their paths' first segment, rest those that begin
	// with a variable or are the root; each in the order of precedence.
	first map[string][]*compiled
	rest  []*compiled
}

func newRoutes(byID map[string]*compiled) *routes {
	r := &routes{byID: byID, first: map[string][]*compiled{}}
	all := slices.SortedFunc(maps.Values(byID), func(a, b *compiled) int {
		switch {
		case a.template.before(b.template):
			return -1
		case b.template.before(a.template):
			return 1
		}
		return strings.Compare(a.ID, b.ID)
	})
	for _, c := range all {
		if s := c.template.segments; len(s) > 0 && s[0].variable == "" {
			r.first[s[0].literal] = append(r.first[s[0].literal], c)
		} else {
			r.rest = append(r.rest, c)
		}
	}
	return r
}

// of gives the account's routes, which may be none.
func (t *table) of(account hearth.Account) *routes {
	if all := t.now.Load(); all != nil {
		if r := (*all)[account]; r != nil {
			return r
		}
	}
	return &routes{}
}

// load has these be the APIs of all accounts.
func (t *table) load(all map[hearth.Account]map[string]*compiled) {
	routes := make(map[hearth.Account]*routes, len(all))
	for account, byID := range all {
		routes[account] = newRoutes(byID)
	}
	t.now.Store(&routes)
}

// set has c be the API of its id, or with nil takes the id's away. One call at a
// time.
func (t *table) set(account hearth.Account, id string, c *compiled) {
	byID := maps.Clone(t.of(account).byID)
	if byID == nil {
		byID = map[string]*compiled{}
	}
	if c == nil {
		delete(byID, id)
	} else {
		byID[id] = c
	}
	all := map[hearth.Account]*routes{}
	if old := t.now.Load(); old != nil {
		maps.Copy(all, *old)
	}
	all[account] = newRoutes(byID)
	t.now.Store(&all)
}

// find gives the API that takes the method and path, with the path's variables.
// Where there is none, allow are the methods that the path has.
func (r *routes) find(method string, parts []string) (c *compiled, variables map[string]any, allow []string) {
	candidates := r.rest
	if len(parts) > 0 {
		candidates = append(slices.Clip(r.first[parts[0]]), r.rest...)
	}
	for _, c := range candidates {
		v, ok := c.template.match(parts)
		if !ok {
			continue
		}
		if slices.Contains(c.Methods, method) {
			return c, v, nil
		}
		allow = append(allow, c.Methods...)
	}
	slices.Sort(allow)
	return nil, nil, slices.Compact(allow)
}

// clash gives an API that would take the same calls as c; nil is none.
func (r *routes) clash(c *compiled) *compiled {
	for _, o := range r.byID {
		if o.ID == c.ID || !o.template.clashes(c.template) {
			continue
		}
		for _, m := range o.Methods {
			if slices.Contains(c.Methods, m) {
				return o
			}
		}
	}
	return nil
}
