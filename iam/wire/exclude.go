package wire

import (
	"regexp"
	"slices"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/iam"
)

// policyIdentifier says, in one of three ways, which policies a simulation is to
// leave out.
type policyIdentifier struct {
	PolicyArn      string // of managed policies
	PolicyType     string
	PolicyName     string `form:"InlinePolicyIdentifier.PolicyName"`
	AttachmentType string `form:"InlinePolicyIdentifier.AttachmentType"`
	AttachmentName string `form:"InlinePolicyIdentifier.AttachmentName"`
}

// The types of policies. Accounts here are in no organization, whose policies
// the last two are.
const (
	typeInline      = "inline"
	typeAWSManaged  = "aws-managed"
	typeUserManaged = "user-managed"
	typeBoundary    = "permission-boundary"
	typeSCP         = "scp"
	typeRCP         = "rcp"
)

var (
	excludedTypes = []string{typeInline, typeAWSManaged, typeUserManaged, typeBoundary, typeSCP, typeRCP}
	excludedARN   = regexp.MustCompile(`^arn:aws:iam::(aws|[0-9]{12}):policy/[\w+=,.@/*?-]+$`)
	excludedName  = regexp.MustCompile(`^[\w+=,.@*?-]+$`)
)

// check tells whether an identifier is in order. Errors: InvalidInput.
func (p *policyIdentifier) check() error {
	ways := 0
	for _, given := range []bool{p.PolicyArn != "", p.PolicyType != "", p.PolicyName+p.AttachmentType+p.AttachmentName != ""} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return hearth.Errorf(hearth.InvalidInput, "A policy to exclude is named by one of PolicyArn, PolicyType and InlinePolicyIdentifier.")
	case p.PolicyType != "" && !slices.Contains(excludedTypes, p.PolicyType):
		return hearth.Errorf(hearth.InvalidInput, "%.64q is no type of policies to exclude: those are %s.", p.PolicyType, strings.Join(excludedTypes, ", "))
	case p.PolicyArn != "" && (!excludedARN.MatchString(p.PolicyArn) || strings.Count(p.PolicyArn, "*") > 1):
		return hearth.Errorf(hearth.InvalidInput, "%.200q is no ARN of policies to exclude, which may have one * in the policy's name.", p.PolicyArn)
	case p.PolicyArn != "" || p.PolicyType != "":
		return nil
	case p.PolicyName == "" || !slices.Contains([]string{"user", "group", "role"}, p.AttachmentType) || !excludedName.MatchString(p.AttachmentName) || strings.Count(p.AttachmentName, "*") > 1:
		return hearth.Errorf(hearth.InvalidInput, "An inline policy to exclude is named by its PolicyName, and whose it is: AttachmentType user, group or role, and AttachmentName, which may have one *.")
	}
	return nil
}

// means tells whether a policy that somebody has is one of these.
func (p *policyIdentifier) means(g *iam.Granted) bool {
	aws := strings.HasPrefix(g.ARN, "arn:aws:iam::aws:")
	switch {
	case p.PolicyArn != "":
		return g.ARN != "" && wildcard(p.PolicyArn, g.ARN)
	case p.PolicyType == typeInline:
		return g.Inline != ""
	case p.PolicyType == typeAWSManaged:
		return aws
	case p.PolicyType == typeUserManaged:
		return g.ARN != "" && !aws
	case p.PolicyType != "":
		return false
	}
	return g.Inline == p.PolicyName && wildcard(p.AttachmentType+"/"+p.AttachmentName, g.Owner)
}

// wildcard tells whether a text is of a pattern: * is any signs, ? is one.
func wildcard(pattern, text string) bool {
	expr := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
	return regexp.MustCompile("^" + expr + "$").MatchString(text)
}

// without is what somebody could do without some of his policies. Errors:
// InvalidInput.
func without(p *iam.Permissions, excluded []policyIdentifier) (*iam.Permissions, error) {
	if len(excluded) == 0 {
		return p, nil
	}
	left := *p
	left.Policies = slices.Clone(p.Policies)
	for i := range excluded {
		e := &excluded[i]
		if err := e.check(); err != nil {
			return nil, err
		}
		if e.PolicyType == typeBoundary {
			left.Boundary = nil
		}
		left.Policies = slices.DeleteFunc(left.Policies, func(g iam.Granted) bool { return e.means(&g) })
	}
	return &left, nil
}
