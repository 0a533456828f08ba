package idempotent

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// Bounds of a declaration.
const (
	MaxDependencies   = 16
	MaxParameters     = 32
	maxSecrets        = 16
	defaultMaxRecords = 1000
	MaxMaxRecords     = 10_000
	maxTTL            = 365 * 24 * time.Hour
)

// plan is a declaration, read: what has to be asked for an event. It is never
// changed.
type plan struct {
	said         hearth.Idempotence // without secrets
	secrets      map[string]string
	parameters   []path
	dependencies []dependency
	ttl          time.Duration
	maxRecords   int
	counts       *counts
	serial       uint64 // unlike that of every other plan
}

// dependency is one of a declaration, with its templates read.
type dependency struct {
	said *hearth.Dependency
	// first and rest are the two halves of what names it: bucket and key, origin
	// and path. rest is nil where there is no second.
	first, rest template
	fields      map[string]template // further ones, by name
	args        []template
}

// Check tells what is wrong with a declaration; nil if nothing is. The secrets
// are those that it brings, or is to keep.
func Check(d *hearth.Idempotence) error {
	_, err := read(d, d.Secrets)
	return err
}

func read(d *hearth.Idempotence, secrets map[string]string) (*plan, error) {
	p := &plan{said: *d, secrets: secrets, ttl: time.Duration(d.TTLSeconds) * time.Second, maxRecords: cmp.Or(d.MaxRecords, defaultMaxRecords)}
	p.said.Secrets = nil
	switch {
	case len(d.Dependencies) > MaxDependencies:
		return nil, wrong("dependencies", fmt.Errorf("there are %d; %d are the limit", len(d.Dependencies), MaxDependencies))
	case len(d.Parameters) > MaxParameters:
		return nil, wrong("parameters", fmt.Errorf("there are %d; %d are the limit", len(d.Parameters), MaxParameters))
	case len(d.Secrets) > maxSecrets:
		return nil, wrong("secrets", fmt.Errorf("there are %d; %d are the limit", len(d.Secrets), maxSecrets))
	case d.TTLSeconds < 0 || p.ttl > maxTTL:
		return nil, wrong("ttlSeconds", fmt.Errorf("%d is not between 0 and %d", d.TTLSeconds, int(maxTTL.Seconds())))
	case p.maxRecords < 1 || p.maxRecords > MaxMaxRecords:
		return nil, wrong("maxRecords", fmt.Errorf("%d is not between 1 and %d; 0 is %d", d.MaxRecords, MaxMaxRecords, defaultMaxRecords))
	}
	for _, s := range d.Parameters {
		path, err := parsePath(s)
		if err != nil {
			return nil, wrong("parameters", err)
		}
		p.parameters = append(p.parameters, path)
	}
	for i := range d.Dependencies {
		dep, err := readDependency(&p.said.Dependencies[i])
		if err == nil {
			err = dep.check(secrets)
		}
		if err != nil {
			return nil, wrong(fmt.Sprintf("dependencies[%d]", i), err)
		}
		p.dependencies = append(p.dependencies, dep)
	}
	return p, nil
}

func wrong(field string, err error) error {
	return hearth.Errorf(hearth.InvalidParameter, "%s: %v", field, err)
}

// readDependency reads the templates of one.
func readDependency(said *hearth.Dependency) (d dependency, err error) {
	d = dependency{said: said, fields: map[string]template{}}
	kinds := 0
	for _, s := range []string{said.S3, said.HTTP, said.File, said.SQL, said.Function} {
		if s != "" {
			kinds++
		}
	}
	if kinds != 1 {
		return d, errors.New("exactly one of s3, http, file, sql and function is wanted")
	}
	if err := foreign(said); err != nil {
		return d, err
	}
	texts := map[string]string{
		"endpoint": said.Endpoint, "region": said.Region, "accessKeyId": said.AccessKeyID, "secretAccessKey": said.SecretAccessKey,
		"sessionToken": said.SessionToken, "database": said.Database,
	}
	for name, v := range said.Headers {
		texts["headers."+name] = v
	}
	for name, text := range texts {
		if text == "" {
			continue
		}
		if d.fields[name], err = parseTemplate(text); err != nil {
			return d, fmt.Errorf("%s: %w", name, err)
		}
		if d.fields[name].uses(fromEvent) {
			return d, fmt.Errorf("%s: it can't come from the event: whoever calls the function would say where its secrets go", name)
		}
	}
	for _, a := range said.Args {
		t, err := parseTemplate(a)
		if err != nil {
			return d, fmt.Errorf("args: %w", err)
		}
		d.args = append(d.args, t)
	}
	return d, d.readName()
}

// foreign refuses fields that belong to another kind of dependency.
func foreign(d *hearth.Dependency) error {
	for _, f := range []struct {
		name     string
		set, may bool
	}{
		{"endpoint", d.Endpoint != "", d.S3 != ""}, {"region", d.Region != "", d.S3 != ""},
		{"accessKeyId", d.AccessKeyID != "", d.S3 != ""}, {"secretAccessKey", d.SecretAccessKey != "", d.S3 != ""}, {"sessionToken", d.SessionToken != "", d.S3 != ""},
		{"headers", len(d.Headers) > 0, d.HTTP != ""},
		{"database", d.Database != "", d.SQL != ""}, {"args", len(d.Args) > 0, d.SQL != ""},
		{"qualifier", d.Qualifier != "", d.Function != ""}, {"event", len(d.Event) > 0, d.Function != ""},
	} {
		if f.set && !f.may {
			return fmt.Errorf("%s does not belong to this kind of dependency", f.name)
		}
	}
	return nil
}

// readName reads what names the dependency.
func (d *dependency) readName() error {
	whole, err := parseTemplate(cmp.Or(d.said.S3, d.said.HTTP, d.said.File, d.said.SQL, d.said.Function))
	if err != nil {
		return err
	}
	d.first = whole
	switch {
	case d.said.S3 != "":
		text, ok := strings.CutPrefix(d.said.S3, "s3://")
		if whole, err = parseTemplate(text); err != nil {
			return err
		}
		var cut bool
		d.first, d.rest, cut = whole.cut("/")
		if !ok || !cut || text[0] == '/' {
			return fmt.Errorf("%q is not s3://BUCKET/KEY", d.said.S3)
		}
	case d.said.HTTP != "":
		_, after, found := whole.cut("://")
		origin, rest, slash := after.cut("/")
		if !slash {
			origin, rest = after, nil
		}
		if !found || whole[0].from != fromText || !strings.HasPrefix(whole[0].text, "http://") && !strings.HasPrefix(whole[0].text, "https://") {
			return fmt.Errorf("%q is neither http://HOST/PATH nor https://HOST/PATH", d.said.HTTP)
		}
		if origin.uses(fromEvent) {
			return errors.New("the host of a URL can't come from the event: whoever calls the function would say where its secrets go")
		}
		scheme, _, _ := strings.Cut(whole[0].text, "://")
		d.first, d.rest = append(template{{text: scheme + "://"}}, origin...), rest
	}
	return nil
}

// check is what is wrong beyond the templates.
func (d *dependency) check(secrets map[string]string) error {
	for _, t := range d.templates() {
		for _, p := range t {
			if _, ok := secrets[p.text]; p.from == fromSecret && !ok {
				return fmt.Errorf("there is no secret %s among secrets", p.text)
			}
		}
	}
	secretHeaders := []string{"headers.Authorization", "headers.Cookie", "headers.Proxy-Authorization", "secretAccessKey", "sessionToken"}
	for name, t := range d.fields {
		if slices.ContainsFunc(secretHeaders, func(s string) bool { return strings.EqualFold(s, name) }) && !t.uses(fromSecret) && !t.uses(fromEnv) {
			return fmt.Errorf("%s: a secret stands in secrets, where it is sealed; write ${secret.NAME} here", name)
		}
	}
	if (d.said.AccessKeyID == "") != (d.said.SecretAccessKey == "") {
		return errors.New("accessKeyId and secretAccessKey belong together")
	}
	switch {
	case d.said.File != "":
		if d.first[0].from != fromText || !filepath.IsAbs(d.first[0].text) {
			return fmt.Errorf("file: %q is no absolute path", d.said.File)
		}
	case d.said.SQL != "":
		for _, p := range d.first {
			if p.from != fromText {
				return errors.New("sql: a query has nothing filled in; write $1 there, and what it is into args")
			}
		}
		if err := checkQuery(d.said.SQL); err != nil {
			return err
		}
		return checkDatabase(d.said.Database)
	case d.said.Function != "":
		if len(d.first) != 1 || d.first[0].from != fromText || strings.Contains(d.said.Qualifier, "${") {
			return errors.New("function: its name has nothing filled in")
		}
		if len(d.said.Event) > 0 && !json.Valid(d.said.Event) {
			return errors.New("event: it is not JSON")
		}
	}
	return nil
}

// checkQuery lets one query pass, and nothing that is more: SQLite could be told
// to open other files.
func checkQuery(s string) error {
	word, _, _ := strings.Cut(strings.Join(strings.Fields(strings.ToUpper(s)), " "), " ")
	if word != "SELECT" && word != "WITH" && word != "VALUES" || strings.Contains(strings.TrimRight(s, "; \t\r\n"), ";") {
		return errors.New("sql: one query is wanted, which begins with SELECT, WITH or VALUES and has no ; within")
	}
	return nil
}

func checkDatabase(s string) error {
	if strings.HasPrefix(s, "${") {
		return nil // whole from a variable or a secret
	}
	scheme, _, _ := strings.Cut(s, "://")
	if scheme != "postgres" && scheme != "postgresql" && scheme != "sqlite" {
		return errors.New("database: it is neither postgres://USER:${secret.NAME}@HOST/DATABASE nor sqlite:///FILE")
	}
	// A template in the place of a password is no valid URL; without one there
	// is nothing to hide.
	if u, err := url.Parse(s); err == nil && !strings.Contains(s, "${") {
		if _, has := u.User.Password(); has || u.Query().Has("password") {
			return errors.New("database: a password stands in secrets, where it is sealed; write ${secret.NAME} here")
		}
	}
	return nil
}

// templates are all of them.
func (d *dependency) templates() []template {
	all := append([]template{d.first, d.rest}, d.args...)
	for _, t := range d.fields {
		all = append(all, t)
	}
	return all
}
