package iam

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
)

// Policy is a managed policy: a document with versions that any number of
// roles can have attached. Its JSON is what is on disk.
type Policy struct {
	Account     hearth.Account `json:"account"` // "" for those of AWS
	Name        string         `json:"name"`
	Path        string         `json:"path"`
	ID          string         `json:"id"` // ANPA…, never used again
	Description string         `json:"description,omitempty"`
	Created     time.Time      `json:"created"`
	Updated     time.Time      `json:"updated"`
	Versions    []Version      `json:"versions"` // the oldest first; never empty
	Default     string         `json:"default"`  // the version in force
	Made        int            `json:"made"`     // how many versions there ever were
	Tags        []Tag          `json:"tags,omitempty"`
}

// Version is a version of a managed policy. It never changes.
type Version struct {
	ID       string    `json:"id"`       // v1, v2, …
	Document string    `json:"document"` // as it was given
	Created  time.Time `json:"created"`
}

// ARN names the policy.
func (p *Policy) ARN() string {
	return "arn:aws:iam::" + cmp.Or(string(p.Account), "aws") + ":policy" + p.Path + p.Name
}

// Version is a version of the policy, or nil.
func (p *Policy) Version(id string) *Version {
	if i := slices.IndexFunc(p.Versions, func(v Version) bool { return v.ID == id }); i >= 0 {
		return &p.Versions[i]
	}
	return nil
}

// NewPolicy is a managed policy that is to be made.
type NewPolicy struct {
	Name        string
	Path        string // "" is /
	Description string
	Document    string
	Tags        []Tag
}

func noPolicy(arn string) error {
	return hearth.Errorf(hearth.NoSuchEntity, "Policy %s was not found.", arn)
}

// CreatePolicy makes a managed policy. Errors: EntityExists, MalformedPolicy,
// LimitExceeded, InvalidInput.
func (d *Directory) CreatePolicy(ctx context.Context, account hearth.Account, n NewPolicy) (*Policy, error) {
	if err := checkManaged(n.Document); err != nil {
		return nil, err
	}
	tags, err := tagged(nil, n.Tags)
	if err != nil {
		return nil, err
	}
	id, err := d.newID("ANPA")
	if err != nil {
		return nil, err
	}
	now := d.now()
	d.changing.Lock()
	defer d.changing.Unlock()
	count := 0
	for range d.policies.Scan(string(account)+"/", "") {
		count++
	}
	return d.policies.Change(ctx, key(account, n.Name), func(old *Policy) (*Policy, error) {
		switch {
		case old != nil:
			return nil, hearth.Errorf(hearth.EntityExists, "A policy called %s already exists. Duplicate names are not allowed.", n.Name)
		case count >= MaxPolicies:
			return nil, hearth.Errorf(hearth.LimitExceeded, "Cannot exceed quota for PoliciesPerAccount: %d", MaxPolicies)
		}
		return &Policy{
			Account: account, Name: n.Name, Path: cmp.Or(n.Path, defaultPath), ID: id, Description: n.Description,
			Created: now, Updated: now, Versions: []Version{{"v1", n.Document, now}}, Default: "v1", Made: 1, Tags: tags,
		}, nil
	})
}

func (d *Directory) now() time.Time { return d.cfg.Clock.Now().UTC().Truncate(time.Second) }

func checkManaged(document string) error {
	if err := checkDocument(document, policy.Identity); err != nil {
		return err
	}
	if size(document) > MaxManagedSize {
		return hearth.Errorf(hearth.LimitExceeded, "Cannot exceed quota for PolicySize: %d", MaxManagedSize)
	}
	return nil
}

var policyARN = regexp.MustCompile(`^arn:aws:iam::(aws|[0-9]{12}):policy/(.+/)?[\w+=,.@-]+$`)

// Policy is the managed policy of an ARN: one of the account's, or of AWS.
// Errors: NoSuchEntity, InvalidInput for what is no policy's ARN.
func (d *Directory) Policy(account hearth.Account, arn string) (*Policy, error) {
	parts := policyARN.FindStringSubmatch(arn)
	switch {
	case parts == nil || parts[1] != "aws" && parts[1] != string(account):
		return nil, hearth.Errorf(hearth.InvalidInput, "ARN %s is not valid.", arn)
	case parts[1] == "aws":
		if p := managed()[arn]; p != nil {
			return p, nil
		}
		return nil, noPolicy(arn)
	}
	if p := d.policies.Get(key(account, nameOf(arn))); p != nil && p.ARN() == arn {
		return p, nil
	}
	return nil, noPolicy(arn)
}

// Policies lists an account's own managed policies by name.
func (d *Directory) Policies(account hearth.Account) (all []*Policy) {
	for _, p := range d.policies.Scan(string(account)+"/", "") {
		all = append(all, p)
	}
	return all
}

// changePolicy changes a copy of a policy of the account's own.
func (d *Directory) changePolicy(ctx context.Context, account hearth.Account, arn string, change func(*Policy) (*Policy, error)) (*Policy, error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	defer d.changed()
	p, err := d.Policy(account, arn)
	switch {
	case err != nil:
		return nil, err
	case p.Account == "":
		return nil, hearth.Errorf(hearth.AccessDenied, "The managed policy %s is AWS's and cannot be changed.", arn)
	}
	return d.policies.Change(ctx, key(account, p.Name), func(old *Policy) (*Policy, error) {
		p := *old
		return change(&p)
	})
}

// CreateVersion adds a version to a managed policy. Errors: NoSuchEntity,
// MalformedPolicy, LimitExceeded.
func (d *Directory) CreateVersion(ctx context.Context, account hearth.Account, arn, document string, asDefault bool) (*Policy, *Version, error) {
	if err := checkManaged(document); err != nil {
		return nil, nil, err
	}
	now := d.now()
	p, err := d.changePolicy(ctx, account, arn, func(p *Policy) (*Policy, error) {
		if len(p.Versions) >= MaxVersions {
			return nil, hearth.Errorf(hearth.LimitExceeded,
				"A managed policy can have up to %d versions. Before you create a new version, you must delete an existing version.", MaxVersions)
		}
		p.Made++
		v := Version{"v" + strconv.Itoa(p.Made), document, now}
		p.Versions = append(slices.Clone(p.Versions), v)
		p.Updated = now
		if asDefault {
			p.Default = v.ID
		}
		return p, nil
	})
	if err != nil {
		return nil, nil, err
	}
	return p, &p.Versions[len(p.Versions)-1], nil
}

func noVersion(arn, version string) error {
	return hearth.Errorf(hearth.NoSuchEntity, "Policy %s version %s %s", arn, version, policiesAreUnknown)
}

// SetDefault puts a version of a managed policy in force. Errors: NoSuchEntity.
func (d *Directory) SetDefault(ctx context.Context, account hearth.Account, arn, version string) error {
	now := d.now()
	_, err := d.changePolicy(ctx, account, arn, func(p *Policy) (*Policy, error) {
		if p.Version(version) == nil {
			return nil, noVersion(arn, version)
		}
		p.Default, p.Updated = version, now
		return p, nil
	})
	return err
}

// DeleteVersion deletes a version of a managed policy. Errors: NoSuchEntity,
// DeleteConflict for the one in force.
func (d *Directory) DeleteVersion(ctx context.Context, account hearth.Account, arn, version string) error {
	_, err := d.changePolicy(ctx, account, arn, func(p *Policy) (*Policy, error) {
		switch {
		case p.Version(version) == nil:
			return nil, noVersion(arn, version)
		case p.Default == version:
			return nil, hearth.Errorf(hearth.DeleteConflict, "Cannot delete the default version of a policy.")
		}
		p.Versions = slices.DeleteFunc(slices.Clone(p.Versions), func(v Version) bool { return v.ID == version })
		return p, nil
	})
	return err
}

// DeletePolicy deletes a managed policy. Errors: NoSuchEntity, DeleteConflict
// for one that is attached or has several versions.
func (d *Directory) DeletePolicy(ctx context.Context, account hearth.Account, arn string) error {
	_, err := d.changePolicy(ctx, account, arn, func(p *Policy) (*Policy, error) {
		switch uses := d.Uses(account, arn); {
		case uses.Attached()+uses.Bounded() > 0:
			return nil, hearth.Errorf(hearth.DeleteConflict, "Cannot delete a policy attached to entities.")
		case len(p.Versions) > 1:
			return nil, hearth.Errorf(hearth.DeleteConflict,
				"This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.")
		}
		return nil, nil
	})
	return err
}

// TagPolicy adds tags. Errors: NoSuchEntity, InvalidInput, LimitExceeded.
func (d *Directory) TagPolicy(ctx context.Context, account hearth.Account, arn string, tags []Tag) error {
	_, err := d.changePolicy(ctx, account, arn, func(p *Policy) (_ *Policy, err error) {
		p.Tags, err = tagged(p.Tags, tags)
		return p, err
	})
	return err
}

// UntagPolicy removes tags. Errors: NoSuchEntity.
func (d *Directory) UntagPolicy(ctx context.Context, account hearth.Account, arn string, keys []string) error {
	_, err := d.changePolicy(ctx, account, arn, func(p *Policy) (*Policy, error) {
		p.Tags = untagged(p.Tags, keys)
		return p, nil
	})
	return err
}

// List is the managed policies whose paths begin with path, of the account's
// own and of AWS, by ARN.
func (d *Directory) List(account hearth.Account, own, aws bool, path string) (all []*Policy) {
	if own {
		all = d.Policies(account)
	}
	if aws {
		all = append(all, managedList()...)
	}
	all = slices.DeleteFunc(all, func(p *Policy) bool { return !strings.HasPrefix(p.Path, path) })
	slices.SortFunc(all, func(a, b *Policy) int { return strings.Compare(a.ARN(), b.ARN()) })
	return all
}

// Version is a managed policy and one of its versions. Errors: NoSuchEntity.
func (d *Directory) Version(account hearth.Account, arn, id string) (*Policy, *Version, error) {
	p, err := d.Policy(account, arn)
	if err != nil {
		return nil, nil, err
	}
	v := p.Version(id)
	if v == nil {
		return nil, nil, noVersion(arn, id)
	}
	return p, v, nil
}
