// Package policy is documents in IAM's policy language: what they say, as a
// type; whether they are in order; and what they decide about a request.
//
// The same language serves what hangs on a resource (a function, a layer
// version), what a role may do, and who may take a role on; Kind tells these
// apart where their rules differ. The package is pure: it reads no clock and
// keeps no state, and its values may be read concurrently.
package policy

// Document is a policy. Its JSON is canonical: the members in one order,
// conditions sorted, a list of one value written as the value alone.
type Document struct {
	Version    string // "2008-10-17", "2012-10-17", or "" which means the former
	ID         string
	Statements []Statement
}

// Statement is one rule of a Document. Of each pair with a Not one is nil;
// what does not occur in a Kind of policy is nil and applies to everything.
type Statement struct {
	SID          string
	Effect       Effect
	Principal    *Principals
	NotPrincipal *Principals
	Action       []string // such as lambda:InvokeFunction; * and ? are wildcards
	NotAction    []string
	Resource     []string // ARNs with wildcards and variables
	NotResource  []string
	Conditions   []Condition // all must hold
}

// Effect is what a statement does with a request that it applies to.
type Effect string

// The effects.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// Principals are who a statement is about.
type Principals struct {
	Any       bool     // "*": everybody
	AWS       []string // ARNs of accounts, users, roles and sessions, or "*"
	Service   []string // such as s3.amazonaws.com
	Federated []string // identity providers
	Canonical []string // canonical user ids, which no Principal of Hearth has
}

// Condition compares one key of a request's context with values. It holds if
// one of the values fits.
type Condition struct {
	Operator string // such as StringEquals or ForAnyValue:ArnLikeIfExists
	Key      string // such as aws:SourceArn; its case does not matter
	Values   []string
}

// Kind is what a policy is attached to.
type Kind uint8

// The kinds.
const (
	// Resource policies say who may do what with the resource.
	Resource Kind = iota
	// Identity policies say what a role may do; they name no principals.
	Identity
	// Trust policies say who may take a role on; they name no resources.
	Trust
)

// variables is the version of the language that has variables.
const variables = "2012-10-17"

// AccountARN is how policies write an account as a principal.
func AccountARN(account string) string { return "arn:aws:iam::" + account + ":root" }
