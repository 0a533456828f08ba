package iam

import (
	"regexp"
	"strings"
	"sync"
	"sync/atomic"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/policy"
)

// Granted is a policy that somebody has, ready to be evaluated.
type Granted struct {
	Name string // as people call it: inline NAME, an ARN, or group GROUP: inline NAME
	// ID is as the service's simulator calls it: user_USER_NAME, group_GROUP_NAME
	// or role_ROLE_NAME of an inline policy, and a managed policy's name.
	ID       string
	Text     string // the document as it was written
	Document *policy.Document
	// Owner is whose it is, as user/NAME, group/NAME or role/NAME, and Inline its
	// name if it is inline, ARN if it is managed; of neither where it was given for
	// the question only.
	Owner, Inline, ARN string
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
		return d.ofUser(u), true
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
	return d.ofRole(r), true
}

func (d *Directory) ofUser(u *User) *Permissions {
	p := &Permissions{ARN: u.ARN(), Tags: u.Tags, Boundary: d.boundary(u.Account, u.Boundary)}
	d.grant(p, u.Account, "", "user_"+u.Name, &u.Grants)
	for _, g := range d.GroupsOf(u) {
		d.grant(p, g.Account, "group "+g.Name+": ", "group_"+g.Name, &g.Grants)
	}
	return p
}

func (d *Directory) ofRole(r *Role) *Permissions {
	p := &Permissions{ARN: r.ARN(), Tags: r.Tags, Boundary: d.boundary(r.Account, r.Boundary)}
	d.grant(p, r.Account, "", "role_"+r.Name, &r.Grants)
	return p
}

// PermissionsByARN are those of an account's user, group or role, and its unique
// id. Errors: NoSuchEntity; InvalidInput for what is neither's ARN.
func (d *Directory) PermissionsByARN(account hearth.Account, arn string) (p *Permissions, id string, err error) {
	sort, name, err := Entity(arn)
	if err != nil {
		return nil, "", err
	}
	switch sort {
	case "user":
		var u *User
		if u, err = d.User(account, name); err == nil && u.ARN() == arn {
			return d.ofUser(u), u.ID, nil
		}
		return nil, "", noUser(name)
	case "group":
		var g *Group
		if g, err = d.Group(account, name); err == nil && g.ARN() == arn {
			p := &Permissions{ARN: arn}
			d.grant(p, account, "", "group_"+g.Name, &g.Grants)
			return p, g.ID, nil
		}
		return nil, "", noGroup(name)
	}
	var r *Role
	if r, err = d.Role(account, name); err == nil && r.ARN() == arn {
		return d.ofRole(r), r.ID, nil
	}
	return nil, "", noRole(name)
}

// Entity is what sort of thing the ARN of a user, group or role is of, and its
// name. Errors: InvalidInput for what is neither's.
func Entity(arn string) (sort, name string, err error) {
	parts := entityARN.FindStringSubmatch(arn)
	if parts == nil {
		return "", "", hearth.Errorf(hearth.InvalidInput, "Invalid Entity Arn: %.2048s does not clearly define entity type and name.", arn)
	}
	return parts[1], nameOf(arn), nil
}

var entityARN = regexp.MustCompile(`^arn:aws:iam::[0-9]{12}:(user|group|role)/(.+/)?[\w+=,.@-]+$`)

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

// grant adds what somebody has: of is how people call whose it is, owner how the
// simulator does. A policy that can't be read, which was in order when it came
// in, is left out of what allows and noted.
func (d *Directory) grant(p *Permissions, account hearth.Account, of, owner string, g *Grants) {
	for _, in := range g.Inline {
		if doc, err := policy.Parse([]byte(in.Document)); err == nil {
			p.Policies = append(p.Policies, Granted{
				Name: of + "inline policy " + in.Name, ID: owner + "_" + in.Name, Text: in.Document, Document: doc, Owner: strings.Replace(owner, "_", "/", 1), Inline: in.Name,
			})
		} else {
			d.cfg.Log.Error("an inline policy can't be read, and allows nothing", "of", p.ARN, "policy", in.Name, "err", err)
		}
	}
	for _, arn := range g.Attached {
		if m := d.managed(account, arn); m != nil {
			m.Name, m.Owner = of+arn, strings.Replace(owner, "_", "/", 1)
			p.Policies = append(p.Policies, *m)
		}
	}
}

// managed is what a managed policy says that is in force, or nil.
func (d *Directory) managed(account hearth.Account, arn string) *Granted {
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
	return &Granted{Name: arn, ID: m.Name, Text: v.Document, Document: doc, ARN: arn}
}

// boundary is what bounds somebody: a boundary that is gone allows nothing.
func (d *Directory) boundary(account hearth.Account, arn string) *Granted {
	if arn == "" {
		return nil
	}
	if m := d.managed(account, arn); m != nil {
		return m
	}
	return &Granted{Name: arn, ID: nameOf(arn), Document: &policy.Document{}}
}
