package policy

import (
	"strings"
)

// Check tells whether a document is in order as a policy of the kind. Its
// error is a sentence for the one who wrote it, in IAM's words where these are
// known. Evaluate is meant for documents that passed.
func (d *Document) Check(kind Kind) error {
	switch {
	case d.Version != "" && d.Version != "2008-10-17" && d.Version != "2012-10-17":
		return syntax("There is no version %q of the language.", d.Version)
	case kind == Identity && d.Version != "2012-10-17":
		return sentence("Policy document must be version 2012-10-17 or greater.")
	case len(d.Statements) == 0:
		return syntax("A policy must have a statement.")
	}
	seen := map[string]bool{}
	for i := range d.Statements {
		s := &d.Statements[i]
		if s.SID != "" && seen[s.SID] {
			return sentence("Statement IDs (SID) in a single policy must be unique.")
		}
		seen[s.SID] = true
		if err := s.Check(kind); err != nil {
			return err
		}
	}
	return nil
}

// Check is Document.Check for one statement.
func (s *Statement) Check(kind Kind) error {
	switch {
	case kind != Resource && strings.ContainsFunc(s.SID, func(c rune) bool { return !alphanumeric(c) }):
		return sentence("Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*")
	case s.Effect == "":
		return syntax("A statement must have an Effect.")
	case s.Effect != Allow && s.Effect != Deny:
		return syntax("%q is no Effect.", s.Effect)
	case len(s.Action)+len(s.NotAction) == 0:
		return sentence("Policy statement must contain actions.")
	case s.Action != nil && s.NotAction != nil:
		return syntax("A statement has Action or NotAction, not both.")
	case s.Resource != nil && s.NotResource != nil:
		return syntax("A statement has Resource or NotResource, not both.")
	case s.Principal != nil && s.NotPrincipal != nil:
		return syntax("A statement has Principal or NotPrincipal, not both.")
	case kind == Identity && (s.Principal != nil || s.NotPrincipal != nil):
		return sentence("Policy document should not specify a principal.")
	case kind != Identity && s.Principal == nil && s.NotPrincipal == nil:
		return sentence("Missing required field Principal")
	case kind == Trust && (s.Resource != nil || s.NotResource != nil):
		return sentence("Has prohibited field Resource")
	case kind != Trust && len(s.Resource)+len(s.NotResource) == 0:
		return sentence("Policy statement must contain resources.")
	}
	for _, actions := range [][]string{s.Action, s.NotAction} {
		for _, a := range actions {
			if err := checkAction(a, kind); err != nil {
				return err
			}
		}
	}
	for _, resources := range [][]string{s.Resource, s.NotResource} {
		for _, r := range resources {
			if err := checkResource(r); err != nil {
				return err
			}
		}
	}
	for _, p := range []*Principals{s.Principal, s.NotPrincipal} {
		if err := p.Check(); err != nil {
			return err
		}
	}
	for _, c := range s.Conditions {
		if err := c.check(); err != nil {
			return err
		}
	}
	return nil
}

func alphanumeric(c rune) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func checkAction(a string, kind Kind) error {
	vendor, name, ok := strings.Cut(a, ":")
	switch {
	case a == "*" && kind != Trust:
		return nil
	case kind == Trust && !strings.HasPrefix(strings.ToLower(a), "sts:"):
		return sentence("AssumeRole policy may only specify STS AssumeRole actions.")
	case !ok:
		return sentence("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
	case strings.Contains(name, ":"):
		return sentence("Actions/Condition can contain only one colon.")
	case vendor == "" || strings.ContainsFunc(vendor, func(c rune) bool { return c != '-' && !alphanumeric(c) }):
		return sentence("Vendor %s is not valid", vendor)
	case name == "" || strings.ContainsFunc(name, func(c rune) bool { return c != '*' && c != '?' && !alphanumeric(c) }):
		return sentence("Action %s is not valid", a)
	}
	return nil
}

func checkResource(r string) error {
	if r == "*" {
		return nil
	}
	parts := strings.SplitN(r, ":", 6)
	if len(parts) < 6 || parts[0] != "arn" {
		// A pattern may have its wildcard anywhere: arn:aws:s3* is in order.
		if strings.HasPrefix(r, "arn:") && strings.Contains(r, "*") {
			return nil
		}
		return sentence("Resource %s must be in ARN format or \"*\".", r)
	}
	if p := parts[1]; p != "*" && p != "aws" && !strings.HasPrefix(p, "aws-") && !strings.HasPrefix(p, "${") {
		return sentence("Partition \"%s\" is not valid for resource \"%s\".", p, r)
	}
	return nil
}

// Check tells whether the principals are in order, as Document.Check does; nil are.
func (p *Principals) Check() error {
	if p == nil || p.Any {
		return nil
	}
	if len(p.AWS)+len(p.Service)+len(p.Federated)+len(p.Canonical) == 0 {
		return sentence("Missing required field Principal cannot be empty!")
	}
	for _, s := range p.AWS {
		if !isPrincipal(s) {
			return sentence("Invalid principal in policy: \"AWS\":\"%s\"", s)
		}
	}
	for _, s := range p.Service {
		if !strings.Contains(s, ".") || strings.ContainsAny(s, "*?/: ") {
			return sentence("Invalid principal in policy: \"SERVICE\":\"%s\"", s)
		}
	}
	for _, s := range p.Federated {
		if s == "" || strings.ContainsAny(s, " ?") {
			return sentence("Invalid principal in policy: \"FEDERATED\":\"%s\"", s)
		}
	}
	return nil
}

func isAccount(s string) bool {
	return len(s) == 12 && !strings.ContainsFunc(s, func(c rune) bool { return c < '0' || c > '9' })
}

// isPrincipal tells what may stand for a principal of sort AWS: all of them,
// an ARN, or the unique id that IAM puts in place of one that was deleted.
func isPrincipal(s string) bool {
	if s == "*" {
		return true
	}
	parts := strings.SplitN(s, ":", 6)
	if len(parts) < 6 {
		return len(s) >= 16 && (strings.HasPrefix(s, "AIDA") || strings.HasPrefix(s, "AROA")) &&
			!strings.ContainsFunc(s, func(c rune) bool { return !alphanumeric(c) })
	}
	if parts[0] != "arn" || !strings.HasPrefix(parts[1], "aws") || parts[3] != "" || !isAccount(parts[4]) || strings.ContainsAny(s, "*? ") {
		return false
	}
	sort, name, named := strings.Cut(parts[5], "/")
	switch parts[2] {
	case "iam":
		return parts[5] == "root" || named && name != "" && (sort == "user" || sort == "role")
	case "sts":
		role, session, of := strings.Cut(name, "/")
		return sort == "federated-user" && name != "" || sort == "assumed-role" && of && role != "" && session != ""
	}
	return false
}
