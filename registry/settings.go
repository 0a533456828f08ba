package registry

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
)

// Settings are what is configured for a function, or for one of its versions
// or aliases, beside its code and configuration. They change no version, and
// end with what they are of. The JSON names are those on disk. A *Settings
// that was handed out is read-only.
type Settings struct {
	// Of the function as a whole, kept under the qualifier "".
	ReservedConcurrency *int   `json:"reservedConcurrency,omitempty"` // nil is none
	Recursion           string `json:"recursion,omitempty"`           // "" is "Terminate"
	CodeSigningConfig   string `json:"codeSigningConfigArn,omitempty"`

	// Of the function (the qualifier ""), a version or an alias.
	Policy            *Policy            `json:"policy,omitempty"`
	URL               *URL               `json:"url,omitempty"`
	EventInvoke       *EventInvoke       `json:"eventInvoke,omitempty"`
	Provisioned       *Provisioned       `json:"provisioned,omitempty"`
	RuntimeManagement *RuntimeManagement `json:"runtimeManagement,omitempty"`
	Scaling           *Scaling           `json:"scaling,omitempty"`
}

// Policy is a resource-based policy: a document in IAM's language.
type Policy struct {
	Document   *policy.Document `json:"document"`
	RevisionID string           `json:"revisionId"`
}

// denies tells whether the policy takes something away.
func (p *Policy) denies() bool {
	return p != nil && slices.ContainsFunc(p.Document.Statements, func(s policy.Statement) bool { return s.Effect == policy.Deny })
}

// Policy returns the resource-based policy under the qualifier of a function
// as Settings does; nil if there is none, or no such function.
func (r *Registry) Policy(account hearth.Account, name, qualifier string) *policy.Document {
	k := key{account, name}
	var s *Settings
	if v := r.view(k); v != nil {
		s = v.settings[settingsKey(qualifier)]
	} else if settingsKey(qualifier) == "" {
		s = r.borrowed.of(k)
	}
	if s == nil || s.Policy == nil {
		return nil
	}
	return s.Policy.Document
}

// Denies tells whether the policy of any function takes something away. While
// none does, nobody who is allowed anyway has to be looked up in policies.
func (r *Registry) Denies() bool { return r.denials.Load() > 0 }

// denials counts the policies of v that take something away.
func (v *view) denials() (n int64) {
	if v == nil {
		return 0
	}
	for _, s := range v.settings {
		if s.Policy.denies() {
			n++
		}
	}
	return n
}

// URL makes a function be served by HTTP.
type URL struct {
	ID         string    `json:"id"`         // the first label of its host name
	AuthType   string    `json:"authType"`   // "NONE" or "AWS_IAM"
	InvokeMode string    `json:"invokeMode"` // "BUFFERED" or "RESPONSE_STREAM"
	CORS       *CORS     `json:"cors,omitempty"`
	Created    time.Time `json:"created"`
	Modified   time.Time `json:"modified"`
}

// CORS tells browsers which origins may call a function's URL.
type CORS struct {
	AllowCredentials *bool    `json:"allowCredentials,omitempty"`
	AllowHeaders     []string `json:"allowHeaders,omitempty"`
	AllowMethods     []string `json:"allowMethods,omitempty"`
	AllowOrigins     []string `json:"allowOrigins,omitempty"`
	ExposeHeaders    []string `json:"exposeHeaders,omitempty"`
	MaxAge           *int     `json:"maxAge,omitempty"` // seconds
}

// EventInvoke is how asynchronous invocations are handled.
type EventInvoke struct {
	MaxAgeSeconds *int      `json:"maxAgeSeconds,omitempty"` // nil is 6 h
	MaxRetries    *int      `json:"maxRetries,omitempty"`    // nil is 2
	OnSuccess     string    `json:"onSuccess,omitempty"`     // an ARN, "" for none
	OnFailure     string    `json:"onFailure,omitempty"`
	Modified      time.Time `json:"modified"`
}

// Provisioned asks for environments that are initialised before they are
// needed.
type Provisioned struct {
	Requested int       `json:"requested"`
	Modified  time.Time `json:"modified"`
}

// RuntimeManagement tells when a function takes a new build of its runtime.
type RuntimeManagement struct {
	UpdateOn   string `json:"updateOn"` // "Auto", "Manual" or "FunctionUpdate"
	VersionARN string `json:"versionArn,omitempty"`
}

// Scaling bounds the environments of a version on a capacity provider.
type Scaling struct {
	MinEnvironments *int `json:"minEnvironments,omitempty"`
	MaxEnvironments *int `json:"maxEnvironments,omitempty"`
}

// clone is a copy that can be changed in depth.
func (s *Settings) clone() (*Settings, error) {
	c := new(Settings)
	if s == nil {
		return c, nil
	}
	b, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(b, c)
	}
	return c, err
}

// Configured is a function's settings under one qualifier.
type Configured struct {
	Account   hearth.Account
	Function  string
	Qualifier string // "" for the function as a whole, else a version or alias
	Settings  *Settings
}

var noSettings Settings

// Settings returns what is configured under the qualifier of a function, or of
// a borrowed name (Config.Borrowed): ""
// or Latest is the function as a whole. What has no settings answers empty
// ones; whether the qualifier exists, Get and Alias tell. It reads from memory and never
// changes what it returned. Errors: ResourceNotFound if there is no function.
func (r *Registry) Settings(_ context.Context, account hearth.Account, name, qualifier string) (*Settings, error) {
	all, err := r.settingsOf(key{account, name})
	if err != nil {
		return nil, err
	}
	return or(all[settingsKey(qualifier)], &noSettings), nil
}

// settingsOf are the settings of a function, or of a borrowed name, by qualifier.
func (r *Registry) settingsOf(k key) (map[string]*Settings, error) {
	if v := r.view(k); v != nil {
		return v.settings, nil
	}
	if !r.isBorrowed(k) {
		return nil, r.notFound(k.account, k.name, "")
	}
	if s := r.borrowed.of(k); s != nil {
		return map[string]*Settings{"": s}, nil
	}
	return nil, nil
}

func settingsKey(qualifier string) string {
	if qualifier == hearth.Latest {
		return ""
	}
	return qualifier
}

// AllSettings returns the function's settings by qualifier; the map is shared
// and must not be changed. Errors: ResourceNotFound.
func (r *Registry) AllSettings(_ context.Context, account hearth.Account, name string) (map[string]*Settings, error) {
	return r.settingsOf(key{account, name})
}

// EverySettings yields all settings of all functions, in no order: what a
// part of the server that keeps an index of them begins with. Config.Configured
// tells of each change after it.
func (r *Registry) EverySettings() iter.Seq[Configured] {
	return func(yield func(Configured) bool) {
		for k, v := range r.all() {
			for qualifier, s := range v.settings {
				if !yield(Configured{k.account, k.name, qualifier, s}) {
					return
				}
			}
		}
		for _, b := range r.borrowed.Scan("", "") {
			if !yield(Configured{b.Account, b.Name, "", b.Settings}) {
				return
			}
		}
	}
}

// Configure changes the settings under the qualifier of a function, which
// must exist: "" or Latest, a version or an alias. change gets a copy that it may alter in place; its error is
// returned and changes nothing. It runs under the function's lock and must not
// call the Registry's changing methods. Settings that it leaves empty are
// removed. Configure returns when the change is on disk.
//
// Errors: ResourceNotFound, and those of change.
func (r *Registry) Configure(ctx context.Context, account hearth.Account, name, qualifier string, change func(*Settings) error) (*Settings, error) {
	k := key{account, name}
	defer r.locks.lock(k)()
	old := r.view(k)
	if old == nil {
		if r.isBorrowed(k) {
			return r.configureBorrowed(ctx, k, qualifier, change)
		}
		return nil, r.notFound(account, name, qualifier)
	}
	at := settingsKey(qualifier)
	if at != "" && old.alias(at) == nil && old.version(at) == nil {
		return nil, r.notFound(account, name, qualifier)
	}
	s, err := old.settings[at].clone()
	if err != nil {
		return nil, internal("Configure", old.newest, err)
	}
	if err := change(s); err != nil {
		return nil, err
	}
	if reflect.DeepEqual(s, or(old.settings[at], &noSettings)) {
		return s, nil
	}
	v := *old
	v.settings = maps.Clone(old.settings)
	if reflect.DeepEqual(s, &noSettings) {
		delete(v.settings, at)
	} else {
		if v.settings == nil {
			v.settings = map[string]*Settings{}
		}
		v.settings[at] = s
	}
	return s, internal("Configure", old.newest, r.commit(ctx, k, old, &v))
}

func or[T any](p, otherwise *T) *T {
	if p == nil {
		return otherwise
	}
	return p
}

// without are the settings but those under the qualifier.
func without(settings map[string]*Settings, qualifier string) map[string]*Settings {
	if settings[qualifier] == nil {
		return settings
	}
	rest := maps.Clone(settings)
	delete(rest, qualifier)
	return rest
}

// tellSettings calls Configured for what changed.
func (r *Registry) tellSettings(k key, old, new *view) {
	var was, is map[string]*Settings
	if old != nil {
		was = old.settings
	}
	if new != nil {
		is = new.settings
	}
	for qualifier := range was {
		if is[qualifier] == nil {
			r.cfg.Configured(Configured{k.account, k.name, qualifier, &noSettings})
		}
	}
	for qualifier, s := range is {
		if was[qualifier] != s {
			r.cfg.Configured(Configured{k.account, k.name, qualifier, s})
		}
	}
}
