package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/jwt"
	"github.com/hearth-faas/hearth/proxy/body"
	"github.com/hearth-faas/hearth/proxy/expression"
)

// API is a proxy API: one operation on a resource, or on those of a type.
type API struct {
	ID          string `json:"id"` // of the account's APIs
	Description string `json:"description,omitempty"`
	// Resource is the one that it is for; or Type says whose, and then the path
	// has the variable {resource}.
	Resource string   `json:"resource,omitempty"`
	Type     string   `json:"type,omitempty"`
	Methods  []string `json:"methods"`
	Path     string   `json:"path"`
	// Function is NAME, NAME:QUALIFIER or an ARN, for the execution service.
	Function string  `json:"function"`
	Mapping  Mapping `json:"mapping"`

	Auth     Auth      `json:"auth"`
	Throttle *Throttle `json:"throttle,omitempty"`
	Cache    *Cache    `json:"cache,omitempty"`
	// TimeoutMillis bounds a call, its tries included; 0 is 30 s.
	TimeoutMillis int64 `json:"timeoutMillis,omitempty"`
	// Idempotent is whether the function may be run again where it is not known
	// whether it ran; absent is by the method.
	Idempotent *bool  `json:"idempotent,omitempty"`
	Async      *Async `json:"async,omitempty"`

	// Revision counts the definition's changes, from 1; Changed is when.
	Revision uint64    `json:"revision,omitempty"`
	Changed  time.Time `json:"changed,omitzero"`
}

// Mapping says how a request becomes an event, and a result a response. Each
// expression has the variables request, path, query, headers, body and
// resource; those after the run also result.
type Mapping struct {
	// Require are what requests must fulfil before anything is run.
	Require []Requirement `json:"require,omitempty"`
	// Event is what the function is given; without it all of the variables.
	Event Text `json:"event,omitempty"`

	// Set is the resource's new state; null changes nothing. It is refused, and
	// the function run again with the new state, if the state has changed since
	// the event was made. Conflict "fail" answers 409 instead.
	Set      Text   `json:"set,omitempty"`
	Conflict string `json:"conflict,omitempty"` // rerun (default) or fail
	// Merge is merged into the state as it is then (RFC 7396: null removes); Add
	// is by which JSON pointers which numbers are added to it.
	Merge Text `json:"merge,omitempty"`
	Add   Text `json:"add,omitempty"`

	// Status (200), Headers and Body (the result) are the response's. In them
	// resource is what it is after the change.
	Status  Text `json:"status,omitempty"`
	Headers Text `json:"headers,omitempty"`
	Body    Text `json:"body,omitempty"`
	// Root is what the outermost element is called in XML; "" is response.
	Root string `json:"root,omitempty"`

	// Errors are what faults are answered with, the first that fits.
	Errors []ErrorMapping `json:"errors,omitempty"`
}

// Text is an expression. In JSON it is a string, or a list of lines.
type Text string

// UnmarshalJSON takes a string or a list of lines.
func (t *Text) UnmarshalJSON(data []byte) error {
	var lines []string
	if json.Unmarshal(data, &lines) == nil {
		*t = Text(strings.Join(lines, "\n"))
		return nil
	}
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return errors.New("an expression is a text, or a list of lines")
	}
	*t = Text(s)
	return nil
}

// MarshalJSON writes one with several lines as a list of them.
func (t Text) MarshalJSON() ([]byte, error) {
	if strings.Contains(string(t), "\n") {
		return json.Marshal(strings.Split(string(t), "\n"))
	}
	return json.Marshal(string(t))
}

// Requirement is a condition of a request.
type Requirement struct {
	That Text `json:"that"` // comes to true or false
	// Status is what a request that does not fulfil it is answered with; 0 is 400.
	Status  int    `json:"status,omitempty"`
	Message string `json:"message"`
}

// ErrorMapping says what a fault is answered with. Its expressions have also
// error: {kind, type, message}.
type ErrorMapping struct {
	On Fault `json:"on"` // "*" is any
	// Type is a pattern of the function's own error type, with * for anything;
	// "" is any.
	Type    string `json:"type,omitempty"`
	Status  int    `json:"status"`
	Body    Text   `json:"body,omitempty"`
	Headers Text   `json:"headers,omitempty"`
}

// Auth says who may call.
type Auth struct {
	// Kind is none, key, jwt or sigv4; "" is sigv4.
	Kind string `json:"kind"`
	// Keys are the names of the keys that may, of those of the account; none is
	// any of them.
	Keys []string `json:"keys,omitempty"`
	// Issuer is whose tokens are taken, as its configuration has it, Audience
	// for whom they must be, of which one is enough. Scopes are those of which a
	// token must have one; none asks for none.
	Issuer   string   `json:"issuer,omitempty"`
	Audience []string `json:"audience,omitempty"`
	Scopes   []string `json:"scopes,omitempty"`
}

// Throttle bounds the calls: Rate a second, Burst at once.
type Throttle struct {
	Rate  float64 `json:"rate"`
	Burst int     `json:"burst"`
}

// Cache says for how long a response is good. It is not, once the resource's
// state or the API has changed.
type Cache struct {
	TTLMillis int64 `json:"ttlMillis"`
	// Key is what tells requests apart, beside the resource, the caller and the
	// format; "" is their path and query.
	Key Text `json:"key,omitempty"`
}

// Async says whether callers may leave.
type Async struct {
	// Mode is always, or asked: by the header "Prefer: respond-async".
	Mode string `json:"mode"`
	// KeepSeconds is how long a result can be fetched; 0 is an hour.
	KeepSeconds int64 `json:"keepSeconds,omitempty"`
	// Callback comes to the URL to which the result is sent, or null.
	Callback Text `json:"callback,omitempty"`
}

// The bounds of APIs.
const (
	MaxAPIs        = 1000 // of an account
	MaxBody        = 1 << 20
	defaultTimeout = 30 * time.Second
	maxTimeout     = 15 * time.Minute
	defaultKeep    = time.Hour
	maxKeep        = 7 * 24 * time.Hour
	maxRules       = 32
)

var (
	methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
	// safe are those that may be sent again whatever has become of the first.
	repeatable = []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}

	// scopePattern is a scope-token of RFC 6749.
	scopePattern = regexp.MustCompile(`^[!#-\[\]-~]{1,200}$`)

	functionPattern = regexp.MustCompile(`^(arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:)?[A-Za-z0-9_-]{1,64}(:(\$LATEST|[A-Za-z0-9_-]{1,128}))?$`)
)

// DecodeAPI reads an API's document. What is wrong with it is an
// InvalidParameter.
func DecodeAPI(data []byte) (*API, error) {
	a := new(API)
	if err := decodeStrict(data, a); err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "This is no proxy API: %v.", err)
	}
	return a, nil
}

// decodeStrict reads the one JSON document in data, which has no members that v
// does not have.
func decodeStrict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("the document ends too early")
		}
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the document")
	}
	return nil
}

// compiled is an API that was checked, ready to serve calls. It never changes.
type compiled struct {
	*API
	account  hearth.Account
	template *template
	timeout  time.Duration
	keep     time.Duration

	require []*expression.Expression
	event, set, merge, add, status, headers, body,
	cacheKey, callback *expression.Expression
	errors []compiledError
}

type compiledError struct {
	*ErrorMapping
	pattern       *regexp.Regexp // nil fits any type
	body, headers *expression.Expression
}

// The variables that expressions have, by when they are evaluated.
var (
	requestVariables = []string{"request", "path", "query", "headers", "body", "resource"}
	requestEnv       = expression.NewEnv(requestVariables...)
	resultEnv        = expression.NewEnv(append(slices.Clone(requestVariables), "result")...)
	errorEnv         = expression.NewEnv(append(slices.Clone(requestVariables), "error")...)
)

// compile checks a definition, whose error names each thing that can't be by
// where it stands in the document, and compiles it.
func compile(account hearth.Account, a *API) (*compiled, error) {
	c := &compiled{API: a, account: account}
	var wrong []string
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	named := func(what, name string) {
		if err := CheckName(what, name); err != nil {
			wrong = append(wrong, err.(*hearth.Error).Message)
		}
	}
	named("id", a.ID)
	if (a.Resource == "") == (a.Type == "") {
		refuse(true, "resource, type: one of them says what the API is for, and only one")
	} else if a.Type != "" {
		named("type", a.Type)
	} else {
		named("resource", a.Resource)
	}
	refuse(len(a.Description) > maxText, "description: more than %d bytes", maxText)
	refuse(len(a.Methods) == 0, "methods: none; say which of %s", strings.Join(methods, ", "))
	for i, m := range a.Methods {
		refuse(!slices.Contains(methods, m), "methods: %.40q is none of %s", m, strings.Join(methods, ", "))
		refuse(slices.Contains(a.Methods[:i], m), "methods: %.40q comes twice", m)
	}
	var err error
	if c.template, err = parseTemplate(a.Path); err != nil {
		refuse(true, "path: %v", err)
	} else {
		refuse(a.Type != "" && !c.template.has(ResourceVariable), "path: an API of a type needs {%s} in its path, which says for which resource a call is", ResourceVariable)
	}
	refuse(!functionPattern.MatchString(a.Function), "function: %.200q is no NAME, NAME:QUALIFIER or ARN of a function", a.Function)

	a.Auth.check(refuse)
	for _, k := range a.Auth.Keys {
		named("auth.keys", k)
	}
	if t := a.Throttle; t != nil {
		refuse(!(t.Rate > 0 && t.Rate <= 1e6), "throttle.rate: %v is not between 0 and 1000000 calls a second", t.Rate)
		refuse(t.Burst < 1 || t.Burst > 1e6, "throttle.burst: %d is not between 1 and 1000000", t.Burst)
	}
	c.timeout = time.Duration(a.TimeoutMillis) * time.Millisecond
	refuse(a.TimeoutMillis < 0 || a.TimeoutMillis > maxTimeout.Milliseconds(), "timeoutMillis: %d is not between 1 and %d", a.TimeoutMillis, maxTimeout.Milliseconds())
	if a.TimeoutMillis == 0 {
		c.timeout = defaultTimeout
	}
	if a.Cache != nil {
		refuse(a.Cache.TTLMillis < 1 || a.Cache.TTLMillis > (24*time.Hour).Milliseconds(), "cache.ttlMillis: %d is not between 1 and a day's 86400000", a.Cache.TTLMillis)
		for _, m := range a.Methods {
			refuse(m != "GET" && m != "HEAD", "cache: a response to %.40s is not for others; only GET and HEAD may be", m)
		}
		refuse(a.Mapping.Set+a.Mapping.Merge+a.Mapping.Add != "", "cache: calls that change the state must be run each time, so leave out cache, or set, merge and add")
		refuse(a.Async != nil, "cache: an asynchronous call has no response that could be kept")
	}
	if s := a.Async; s != nil {
		refuse(s.Mode != "always" && s.Mode != "asked", "async.mode: %.40q is neither always nor asked", s.Mode)
		c.keep = time.Duration(s.KeepSeconds) * time.Second
		refuse(s.KeepSeconds < 0 || s.KeepSeconds > int64(maxKeep.Seconds()), "async.keepSeconds: %d is not between 1 and %d", s.KeepSeconds, int64(maxKeep.Seconds()))
		if s.KeepSeconds == 0 {
			c.keep = defaultKeep
		}
	}
	c.compileMapping(refuse)
	if len(wrong) > 0 {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The proxy API %.140s can't be: %s.", a.ID, strings.Join(wrong, "; "))
	}
	return c, nil
}

// check fills in the kind, and refuses what cannot be.
func (a *Auth) check(refuse func(bad bool, format string, args ...any)) {
	switch a.Kind {
	case "":
		a.Kind = "sigv4"
	case "none", "key", "jwt", "sigv4":
	default:
		refuse(true, "auth.kind: %.40q is none of none, key, jwt, sigv4", a.Kind)
	}
	refuse(len(a.Keys) > 0 && a.Kind != "key", "auth.keys: only the kind key has keys")
	if a.Kind != "jwt" {
		refuse(a.Issuer != "" || len(a.Audience)+len(a.Scopes) > 0, "auth.issuer, auth.audience, auth.scopes: only the kind jwt has them")
		return
	}
	if err := jwt.CheckIssuer(a.Issuer); err != nil {
		refuse(true, "auth.issuer: %v", err)
	}
	refuse(len(a.Audience) == 0, "auth.audience: none; say for whom tokens must be")
	refuse(len(a.Audience) > maxRules || len(a.Scopes) > maxRules, "auth.audience, auth.scopes: more than %d", maxRules)
	for _, v := range a.Scopes {
		refuse(!scopePattern.MatchString(v), "auth.scopes: %.80q is no scope", v)
	}
}

// compileMapping compiles the expressions.
func (c *compiled) compileMapping(refuse func(bad bool, format string, args ...any)) {
	m := &c.Mapping
	make := func(env *expression.Env, where string, text Text, kind expression.Kind) *expression.Expression {
		if text == "" {
			return nil
		}
		x, err := env.Compile(string(text), kind)
		refuse(err != nil, "%s: %v", where, err)
		return x
	}
	refuse(len(m.Require) > maxRules, "mapping.require: more than %d", maxRules)
	for i := range m.Require {
		r, where := &m.Require[i], fmt.Sprintf("mapping.require[%d]", i)
		refuse(r.That == "", "%s.that: no condition", where)
		refuse(r.Message == "" || len(r.Message) > maxText, "%s.message: say in up to %d bytes what is asked of the caller", where, maxText)
		refuse(r.Status != 0 && (r.Status < 400 || r.Status > 499), "%s.status: %d is not from 400 to 499", where, r.Status)
		c.require = append(c.require, make(requestEnv, where+".that", r.That, expression.Bool))
	}
	c.event = make(requestEnv, "mapping.event", m.Event, expression.Any)
	c.set = make(resultEnv, "mapping.set", m.Set, expression.Map)
	c.merge = make(resultEnv, "mapping.merge", m.Merge, expression.Map)
	c.add = make(resultEnv, "mapping.add", m.Add, expression.Map)
	refuse(m.Set != "" && m.Merge+m.Add != "", "mapping: set is the whole new state, so it can't be with merge or add")
	refuse(m.Conflict != "" && m.Conflict != "rerun" && m.Conflict != "fail", "mapping.conflict: %.40q is neither rerun nor fail", m.Conflict)
	refuse(m.Conflict != "" && m.Set == "", "mapping.conflict: without set there are no conflicts")
	c.status = make(resultEnv, "mapping.status", m.Status, expression.Int)
	c.headers = make(resultEnv, "mapping.headers", m.Headers, expression.Map)
	c.body = make(resultEnv, "mapping.body", m.Body, expression.Any)
	refuse(m.Root != "" && !body.SimpleName(m.Root), "mapping.root: %.80q can't be the name of an element", m.Root)
	refuse(len(m.Errors) > maxRules, "mapping.errors: more than %d", maxRules)
	for i := range m.Errors {
		e, where := &m.Errors[i], fmt.Sprintf("mapping.errors[%d]", i)
		refuse(e.On != "*" && !slices.Contains(Faults, e.On), "%s.on: %.80q is neither * nor one of %s", where, e.On, joinFaults())
		refuse(e.Status < 400 || e.Status > 599, "%s.status: %d is not from 400 to 599", where, e.Status)
		ce := compiledError{ErrorMapping: e}
		if e.Type != "" {
			ce.pattern = glob(e.Type)
		}
		ce.body = make(errorEnv, where+".body", e.Body, expression.Any)
		ce.headers = make(errorEnv, where+".headers", e.Headers, expression.Map)
		c.errors = append(c.errors, ce)
	}
	if c.Cache != nil {
		c.cacheKey = make(requestEnv, "cache.key", c.Cache.Key, expression.Any)
	}
	if c.Async != nil {
		c.callback = make(requestEnv, "async.callback", c.Async.Callback, expression.Any)
	}
}

// glob is a pattern in which * stands for anything.
func glob(pattern string) *regexp.Regexp {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("^(?s:" + strings.Join(parts, ".*") + ")$")
}

// mayRepeat tells whether the function may be run again where it is not known
// whether it ran.
func (c *compiled) mayRepeat(method string) bool {
	if c.Idempotent != nil {
		return *c.Idempotent
	}
	return slices.Contains(repeatable, method)
}
