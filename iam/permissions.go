package iam

import (
	"strings"
	"sync"
	"sync/atomic"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/policy"
)

// Granted is a policy that somebody has, ready to be evaluated.
type Granted struct {
	Name     string // as people call it: inline NAME, an ARN, or group GROUP: inline NAME
	Document *policy.Document
}

// Permissions are what a user or a role may do. They are never changed.
type Permissions struct {
	ARN      string // of the user or the role, with its path
	Policies []Granted
	Boundary *Granted // nil is none
	Tags     []Tag
}

// permissions keeps what was worked out, by the ARN of who it is about, until
// anything of the directory changes.
type permissions struct {
	revision atomic.Uint64
	mu       sync.RWMutex
	of       uint64 // the revision that known is of
	known    map[string]*Permissions
}

// changed forgets what was worked out: it is called after each change of what
// somebody may do.
func (d *Directory) changed() {
	d.permissions.revision.Add(1)
	if d.cfg.Changed != nil {
		d.cfg.Changed()
	}
}

// PermissionsOf are those of who made a request; known is false of who is
// neither a user nor a role (or a session of one) that the Directory has or
// had: root, and sessions of roles that nobody keeps here. nil Permissions of
// somebody known are of who was deleted meanwhile, and may do nothing. What was
// worked out before is told from memory.
func (d *Directory) PermissionsOf(id hearth.Identity) (p *Permissions, known bool) {
	at := d.permissions.revision.Load()
	cached := id.ARN + " " + id.UserID
	d.permissions.mu.RLock()
	if d.permissions.of == at {
		p, known = d.permissions.known[cached]
	}
	d.permissions.mu.RUnlock()
	if known {
		return p, true
	}
	p, known = d.workOut(id)
	if !known {
		return nil, false
	}
	d.permissions.mu.Lock()
	defer d.permissions.mu.Unlock()
	if d.permissions.of != at || len(d.permissions.known) >= maxKnown || d.permissions.known == nil {
		d.permissions.of, d.permissions.known = at, map[string]*Permissions{}
	}
	d.permissions.known[cached] = p
	return p, true
}

// maxKnown bounds whose permissions are kept at a time: sessions have names,
// which anybody may choose who may take a role on.
const maxKnown = 4096

func (d *Directory) workOut(id hearth.Identity) (*Permissions, bool) {
	if u, is := d.userOf(id); is {
		if u == nil {
			return nil, true
		}
		p := &Permissions{ARN: u.ARN(), Tags: u.Tags, Boundary: d.boundary(u.Account, u.Boundary)}
		d.grant(p, u.Account, "", &u.Grants)
		for _, g := range d.GroupsOf(u) {
			d.grant(p, g.Account, "group "+g.Name+": ", &g.Grants)
		}
		return p, true
	}
	r, is := d.roleOfSession(id)
	if !is {
		return nil, false
	}
	roleID, _, _ := strings.Cut(id.UserID, ":")
	// The id of a role that nobody keeps is made from its name. What has
	// another one took a role on that was kept, and is this or is gone.
	drawn := id.Role != "" && roleID != identity.RoleID(id.Role)
	switch {
	case r == nil:
		return nil, drawn || d.cfg.Strict
	case drawn && r.ID != roleID:
		return nil, true // another of the same name
	}
	p := &Permissions{ARN: r.ARN(), Tags: r.Tags, Boundary: d.boundary(r.Account, r.Boundary)}
	d.grant(p, r.Account, "", &r.Grants)
	return p, true
}

// userOf is the user who an identity is, by the id or, without one, by the
// name; is tells that it is one at all.
func (d *Directory) userOf(id hearth.Identity) (u *User, is bool) {
	path, is := strings.CutPrefix(id.ARN, "arn:aws:iam::"+string(id.Account)+":user/")
	if !is {
		return nil, false
	}
	if id.UserID != "" {
		return d.UserByID(id.Account, id.UserID), true
	}
	u, err := d.User(id.Account, nameOf("/"+path))
	if err != nil || u.ARN() != id.ARN {
		return nil, true
	}
	return u, true
}

// roleOfSession is the role that a session took on, or that an ARN names; is
// tells that it is one at all.
func (d *Directory) roleOfSession(id hearth.Identity) (r *Role, is bool) {
	if strings.HasPrefix(id.ARN, "arn:aws:iam::"+string(id.Account)+":role/") {
		return d.RoleOf(id.ARN), true
	}
	arn, is := policy.RoleOf(id.ARN)
	if !is {
		return nil, false
	}
	return d.roles.Get(key(id.Account, nameOf(arn))), true
}

// grant adds what somebody has. A policy that can't be read, which was in order
// when it came in, is left out of what allows and noted.
func (d *Directory) grant(p *Permissions, account hearth.Account, of string, g *Grants) {
	for _, in := range g.Inline {
		if doc, err := policy.Parse([]byte(in.Document)); err == nil {
			p.Policies = append(p.Policies, Granted{of + "inline policy " + in.Name, doc})
		} else {
			d.cfg.Log.Error("an inline policy can't be read, and allows nothing", "of", p.ARN, "policy", in.Name, "err", err)
		}
	}
	for _, arn := range g.Attached {
		if m := d.managed(account, arn); m != nil {
			p.Policies = append(p.Policies, Granted{of + arn, m})
		}
	}
}

// managed is the document in force of a managed policy, or nil.
func (d *Directory) managed(account hearth.Account, arn string) *policy.Document {
	m, err := d.Policy(account, arn)
	if err != nil {
		return nil // of AWS's that this version does not have
	}
	v := m.Version(m.Default)
	if v == nil {
		return nil
	}
	doc, err := policy.Parse([]byte(v.Document))
	if err != nil {
		d.cfg.Log.Error("a managed policy can't be read, and allows nothing", "policy", arn, "err", err)
		return nil
	}
	return doc
}

// boundary is what bounds somebody: a boundary that is gone allows nothing.
func (d *Directory) boundary(account hearth.Account, arn string) *Granted {
	if arn == "" {
		return nil
	}
	doc := d.managed(account, arn)
	if doc == nil {
		doc = &policy.Document{}
	}
	return &Granted{arn, doc}
}
