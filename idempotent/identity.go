package idempotent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hearth-faas/hearth"
)

// State is what something that a result depends on was at one moment: a cheap
// stand-in for its content. Equal Values are equal contents.
type State struct {
	Name  string `json:"name"` // of what it is the state; shown, and without secrets
	Value string `json:"value"`
	// Unsettled: it changed so short a time ago that a further change could
	// leave the same Value. Such a state is good to run by, not to skip by.
	Unsettled bool `json:"-"`
}

// Resource is something outside, with all that its declaration left open filled
// in, secrets included.
type Resource struct {
	Name string // as in State
	// Dependency has only what belongs to the resource's kind.
	Dependency hearth.Dependency
	Bucket     string // of S3; the key is in Key
	Key        string
}

// States asks for the states of resources. Safe for concurrent use.
type States interface {
	// State is r's state now: not from a cache. The State's name is filled in by
	// the caller. That there is no such object, file or page is a state too. An
	// error, which has no secret in it, is that the state can't be known; ctx
	// bounds how long that may take.
	State(ctx context.Context, r *Resource) (State, error)
}

// sum is a SHA-256.
type sum [sha256.Size]byte

// hasher takes texts, each apart from the next.
type hasher struct{ hash.Hash }

func newHasher() hasher { return hasher{sha256.New()} }

func (h hasher) text(texts ...string) {
	var n [8]byte
	for _, s := range texts {
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		_, _ = h.Write(n[:]) // a hash takes all
		_, _ = h.Write([]byte(s))
	}
}

func (h hasher) sum() (s sum) {
	h.Hash.Sum(s[:0])
	return s
}

func (s sum) short() string { return hex.EncodeToString(s[:8]) }

// codeOf are the states of what runs: the code, and of the configuration what
// the code can be told by. The amount of memory, the timeout and where the log
// goes are not among it: they decide whether a result comes, not which.
func codeOf(f *hearth.Function, p *plan) []State {
	code := newHasher()
	code.text(f.PackageType, f.Package.SHA256, f.Runtime, f.Handler, f.RuntimeVersionARN)
	code.text(f.Architectures...)
	for _, l := range f.Layers {
		code.text(l.ARN, l.Package.SHA256)
	}
	if f.Image != nil {
		code.text(f.Image.Resolved, f.Image.WorkingDirectory)
		for _, list := range [][]string{f.Image.EntryPoint, f.Image.Command} {
			code.text(fmt.Sprint(list == nil, len(list)))
			code.text(list...)
		}
	}
	set := newHasher()
	set.text(f.Role)
	for _, fs := range f.FileSystems {
		set.text(fs.ARN, fs.LocalMountPath)
	}
	env := newHasher()
	names := slices.Sorted(maps.Keys(f.Env))
	if p.said.Environment != nil {
		names = *p.said.Environment
	}
	for _, name := range names {
		value, ok := f.Env[name]
		env.text(name, value, fmt.Sprint(ok))
	}
	return []State{
		{Name: "the code", Value: code.sum().short()},
		{Name: "the role and file systems", Value: set.sum().short()},
		{Name: "the environment", Value: env.sum().short()},
	}
}

// lineOf is what stays the same while states change: the function and the
// parameters of the request. What of the request the function sees, but its id
// and its trace, is among them.
func lineOf(inv *hearth.Invocation, f *hearth.Function, p *plan) (sum, error) {
	h := newHasher()
	h.text(string(f.Account), f.Name, f.Version, inv.InvokedARN, inv.TenantID, inv.ClientContext, inv.CognitoID)
	if len(p.parameters) == 0 {
		// As it was sent, but for white space: an order of members, or a way to
		// write a number, may matter to the function.
		var b bytes.Buffer
		if err := json.Compact(&b, inv.Payload); err != nil {
			return sum{}, errors.New("the event is not JSON")
		}
		h.text("event", b.String())
		return h.sum(), nil
	}
	for i, path := range p.parameters {
		raw, ok := path.in(inv.Payload)
		var b bytes.Buffer
		if ok {
			if err := json.Compact(&b, raw); err != nil {
				return sum{}, errors.New("the event is not JSON")
			}
		}
		h.text(p.said.Parameters[i], fmt.Sprint(ok), b.String())
	}
	return h.sum(), nil
}

// keyOf is the identity of a result: a line in certain states.
func keyOf(line sum, states []State) sum {
	h := newHasher()
	_, _ = h.Write(line[:]) // a hash takes all
	for _, s := range states {
		h.text(s.Name, s.Value)
	}
	return h.sum()
}

// unsettled names a state that is not good to skip by; "" if there is none.
func unsettled(states []State) string {
	for _, s := range states {
		if s.Unsettled {
			return s.Name
		}
	}
	return ""
}

// changed tells what is not as it was, one by one; "" is nothing.
func changed(was, is []State) string {
	before := map[string]string{}
	for _, s := range was {
		before[s.Name] = s.Value
	}
	var all []string
	for _, s := range is {
		switch v, ok := before[s.Name]; {
		case !ok:
			all = append(all, s.Name+" is new")
		case v != s.Value:
			all = append(all, s.Name+" has changed")
		}
		delete(before, s.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		all = append(all, name+" is not looked at any more")
	}
	if len(all) > 4 {
		all = append(all[:4], fmt.Sprintf("and %d more", len(all)-4))
	}
	return strings.Join(all, ", ")
}

// hides reports whether the dependency's name does not tell which it is.
func (d *dependency) hides() bool {
	for _, t := range d.templates() {
		if t.uses(fromEnv) || t.uses(fromSecret) {
			return true
		}
	}
	return false
}

// hidden stands for what the name does not show. An S3 server's keys are not
// among it: they may change, and the object is the same.
func (r *Resource) hidden() string {
	h, d := newHasher(), &r.Dependency
	h.text(r.Bucket, r.Key, d.Endpoint, d.HTTP, d.File, d.Database)
	h.text(d.Args...)
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		h.text(name, d.Headers[name])
	}
	return h.sum().short()
}

// resource fills a dependency in. Function dependencies have none.
func (d *dependency) resource(s *scope) (*Resource, error) {
	r := &Resource{}
	fields := map[string]string{}
	for name, t := range d.fields {
		v, shown, err := t.expand(s, nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		fields[name] = v
		fields["shown "+name] = shown
	}
	switch {
	case d.said.S3 != "":
		bucket, shownBucket, err := d.first.expand(s, nil)
		if err != nil {
			return nil, err
		}
		key, shownKey, err := d.rest.expand(s, nil)
		if err != nil {
			return nil, err
		}
		if bucket == "" || strings.ContainsAny(bucket, "/?#@:") || key == "" {
			return nil, fmt.Errorf("s3://%s/%s names no object", shownBucket, shownKey)
		}
		r.Bucket, r.Key, r.Name = bucket, key, "s3://"+shownBucket+"/"+shownKey
		if e := fields["shown endpoint"]; e != "" {
			r.Name += " at " + e
		}
		r.Dependency = hearth.Dependency{S3: d.said.S3, Endpoint: fields["endpoint"], Region: fields["region"],
			AccessKeyID: fields["accessKeyId"], SecretAccessKey: fields["secretAccessKey"], SessionToken: fields["sessionToken"]}
	case d.said.HTTP != "":
		target, shown, err := d.url(s)
		if err != nil {
			return nil, err
		}
		r.Name, r.Dependency = shown, hearth.Dependency{HTTP: target, Headers: map[string]string{}}
		for name := range d.said.Headers {
			r.Dependency.Headers[name] = fields["headers."+name]
		}
	case d.said.File != "":
		file, shown, err := d.first.expand(s, nil)
		if err != nil {
			return nil, err
		}
		if !filepath.IsAbs(file) || filepath.Clean(file) != file {
			return nil, fmt.Errorf("file %s is no clean absolute path", shown)
		}
		r.Name, r.Dependency = "file "+shown, hearth.Dependency{File: file}
	case d.said.SQL != "":
		r.Dependency = hearth.Dependency{SQL: d.said.SQL, Database: fields["database"]}
		r.Name = "the rows of " + d.said.SQL
		for i, a := range d.args {
			v, shown, err := a.expand(s, nil)
			if err != nil {
				return nil, err
			}
			r.Dependency.Args = append(r.Dependency.Args, v)
			r.Name += fmt.Sprintf(", $%d=%s", i+1, shown)
		}
		r.Name += " in " + fields["shown database"]
	}
	return r, nil
}

// url fills in a URL. What comes from the event is escaped for where it stands.
func (d *dependency) url(s *scope) (text, shown string, err error) {
	origin, shownOrigin, err := d.first.expand(s, nil)
	if err != nil {
		return "", "", err
	}
	if d.rest == nil {
		return origin + "/", shownOrigin + "/", nil
	}
	before, after, query := d.rest.cut("?")
	path, shownPath, err := before.expand(s, func(v string) (string, error) {
		if v == "." || v == ".." {
			return "", fmt.Errorf("%q is no part of a path", v)
		}
		return url.PathEscape(v), nil
	})
	if err != nil {
		return "", "", err
	}
	text, shown = origin+"/"+path, shownOrigin+"/"+shownPath
	if query {
		q, shownQuery, err := after.expand(s, func(v string) (string, error) { return url.QueryEscape(v), nil })
		if err != nil {
			return "", "", err
		}
		text, shown = text+"?"+q, shown+"?"+shownQuery
	}
	return text, shown, nil
}
