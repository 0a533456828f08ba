package wire

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/iam"
	language "github.com/hearth-faas/hearth/policy"
	"github.com/hearth-faas/hearth/query"
)

type contextEntry struct {
	ContextKeyName   string
	ContextKeyValues []string
	ContextKeyType   string
}

// simulation is what both operations are told.
type simulation struct {
	PermissionsBoundaryPolicyInputList []string
	ActionNames                        []string `query:"required"`
	ResourceArns                       []string
	ResourcePolicy                     string
	ResourceOwner                      string
	CallerArn                          string
	ContextEntries                     []contextEntry
	ResourceHandlingOption             string
	paging
}

type simulateCustomInput struct {
	PolicyInputList []string `query:"required"`
	simulation
}

type simulatePrincipalInput struct {
	PolicySourceArn     string `query:"required"`
	PolicyInputList     []string
	PolicyExclusionList []policyIdentifier
	simulation
}

type matched struct {
	SourcePolicyId   string
	SourcePolicyType string
	StartPosition    language.Position
	EndPosition      language.Position
}

type boundaryDetail struct{ AllowedByPermissionsBoundary bool }

// resourceResult is one resource's. Today's SDK says to look here for what comes
// of each resource.
type resourceResult struct {
	EvalResourceName                  string
	EvalResourceDecision              string
	MatchedStatements                 query.List[matched]
	MissingContextValues              query.List[string]
	EvalDecisionDetails               *query.Map      `xml:",omitempty"`
	PermissionsBoundaryDecisionDetail *boundaryDetail `xml:",omitempty"`
}

type evaluationResult struct {
	EvalActionName                    string
	EvalResourceName                  string
	EvalDecision                      string
	MatchedStatements                 query.List[matched]
	MissingContextValues              query.List[string]
	EvalDecisionDetails               *query.Map                  `xml:",omitempty"`
	PermissionsBoundaryDecisionDetail *boundaryDetail             `xml:",omitempty"`
	ResourceSpecificResults           *query.List[resourceResult] `xml:",omitempty"`
}

type simulateOutput struct {
	EvaluationResults query.List[evaluationResult]
	paged
}

func (s *service) simulateCustomPolicy(_ context.Context, c *query.Call, in *simulateCustomInput) (*simulateOutput, error) {
	return s.simulate(c, &iam.Permissions{}, "", in.PolicyInputList, &in.simulation)
}

func (s *service) simulatePrincipalPolicy(_ context.Context, c *query.Call, in *simulatePrincipalInput) (*simulateOutput, error) {
	p, id, err := s.dir.PermissionsByARN(c.Caller.Account, in.PolicySourceArn)
	if err != nil {
		return nil, err
	}
	if p, err = without(p, in.PolicyExclusionList); err != nil {
		return nil, err
	}
	return s.simulate(c, p, id, in.PolicyInputList, &in.simulation)
}

// simulate judges each action on each resource, as far as the page goes. p are
// the permissions that the caller has already, and id is his.
func (s *service) simulate(c *query.Call, p *iam.Permissions, id string, more []string, in *simulation) (*simulateOutput, error) {
	if s.judge == nil {
		return nil, hearth.Errorf(hearth.NotBuilt, "There is nobody here who judges.")
	}
	if in.ResourceHandlingOption != "" {
		return nil, hearth.Errorf(hearth.InvalidInput, "ResourceHandlingOption is about EC2, which there is none of here.")
	}
	t, err := newTrial(c.Caller.Account, p, id, more, in)
	if err != nil {
		return nil, err
	}
	from, err := strconv.Atoi(cmp.Or(in.Marker, "0"))
	if err != nil || from < 0 {
		return nil, hearth.Errorf(hearth.Validation, "Invalid Marker.")
	}
	resources := in.ResourceArns
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	out, work, most := &simulateOutput{}, 0, in.page("").Max
	if most == 0 {
		most = 100
	}
	for at := from; at < len(in.ActionNames)*len(resources); at++ {
		action, resource := in.ActionNames[at/len(resources)], resources[at%len(resources)]
		cost := t.cost(action, resource)
		if cost > maxWork {
			return nil, hearth.Errorf(hearth.LimitExceeded, "These policies are too long to be simulated with so long a context.")
		}
		if work += cost; len(out.EvaluationResults) == most || work > maxWork {
			out.paged = next(strconv.Itoa(at))
			return out, nil
		}
		if !actionName.MatchString(action) {
			return nil, hearth.Errorf(hearth.InvalidInput, "Invalid Action Name: %.128s", action)
		}
		if len(resource) > 2048 || resource != "*" && !strings.HasPrefix(resource, "arn:") {
			return nil, hearth.Errorf(hearth.InvalidInput, "ResourceNames are not in a valid ARN format: %.128s.", resource)
		}
		out.EvaluationResults = append(out.EvaluationResults, t.result(s.judge, action, resource))
	}
	return out, nil
}

// maxWork bounds what one call makes the judge do, in the product of what it
// compares: bytes of policies with bytes of requests. It bounds the memory, too,
// since policies' variables are filled in with what the request says. What is
// beyond it is for the next page.
const maxWork = 1 << 26

var actionName = regexp.MustCompile(`^[a-zA-Z0-9-]{1,64}:[a-zA-Z0-9]{1,128}$`)

// trial is a caller with permissions who tries things.
type trial struct {
	caller       hearth.Identity
	owner        hearth.Account // of resources whose ARN has none
	permissions  iam.Permissions
	context      map[string][]string
	resource     *language.Document // the resource's policy; nil is none
	resourceText string
	places       map[string][]language.Span // of the statements, by the policy's text
	size         int                        // bytes of all policies
	statements   int
	contextSize  int
}

func newTrial(asks hearth.Account, p *iam.Permissions, id string, more []string, in *simulation) (*trial, error) {
	t := &trial{permissions: *p, caller: hearth.Identity{Account: asks, ARN: p.ARN, UserID: id}, context: map[string][]string{}}
	t.permissions.Policies = p.Policies[:len(p.Policies):len(p.Policies)]
	for i, text := range more {
		g, err := given("PolicyInputList", i, text)
		if err != nil {
			return nil, err
		}
		t.permissions.Policies = append(t.permissions.Policies, *g)
	}
	for i, text := range in.PermissionsBoundaryPolicyInputList {
		if i > 0 {
			return nil, hearth.Errorf(hearth.InvalidInput, "There can be one permissions boundary only.")
		}
		g, err := given("PermissionsBoundaryPolicyInputList", i, text)
		if err != nil {
			return nil, err
		}
		t.permissions.Boundary = g
	}
	if in.CallerArn != "" && in.CallerArn != p.ARN {
		if _, _, err := iam.Entity(in.CallerArn); err != nil {
			return nil, hearth.Errorf(hearth.InvalidInput, "Invalid caller - Caller must be an IAM user, role or group in this context.")
		}
		// Who that is, is not looked up: it may be another account's affair.
		t.caller = hearth.Identity{Account: accountOf(in.CallerArn), ARN: in.CallerArn}
		t.permissions.ARN, t.permissions.Tags = in.CallerArn, nil
	}
	if in.ResourceOwner != "" {
		if t.owner = hearth.Account(in.ResourceOwner); len(in.ResourceOwner) != 12 {
			t.owner = accountOf(in.ResourceOwner)
		}
		if !accountID.MatchString(string(t.owner)) {
			return nil, hearth.Errorf(hearth.InvalidInput, "Invalid Resource Owner.")
		}
	}
	if in.ResourcePolicy != "" {
		if t.caller.ARN == "" {
			return nil, hearth.Errorf(hearth.InvalidInput, "Invalid caller - Caller cannot be null or empty.")
		}
		doc, err := inOrder(in.ResourcePolicy, language.Resource)
		if err != nil {
			return nil, err
		}
		t.resource, t.resourceText = doc, in.ResourcePolicy
	}
	for _, e := range in.ContextEntries {
		if e.ContextKeyName == "" {
			return nil, hearth.Errorf(hearth.InvalidInput, "A context entry must have a ContextKeyName.")
		}
		key := strings.ToLower(e.ContextKeyName)
		t.context[key] = append(t.context[key], e.ContextKeyValues...)
		for _, v := range e.ContextKeyValues {
			t.contextSize += len(v) + 1
		}
	}
	t.locate(t.resourceText)
	for _, g := range t.permissions.Policies {
		t.locate(g.Text)
	}
	if t.permissions.Boundary != nil {
		t.locate(t.permissions.Boundary.Text)
	}
	return t, nil
}

// locate finds the statements of a policy, which was read before; "" is none.
func (t *trial) locate(text string) {
	_, spans, err := language.ParsePlaced([]byte(text))
	if err != nil {
		return
	}
	t.size += len(text)
	t.statements += len(spans)
	if t.places == nil {
		t.places = map[string][]language.Span{}
	}
	t.places[text] = spans
}

var accountID = regexp.MustCompile(`^[0-9]{12}$`)

// given is a policy of an input's list.
func given(list string, i int, text string) (*iam.Granted, error) {
	doc, err := inOrder(text, language.Identity)
	if err != nil {
		return nil, err
	}
	name := list + "." + strconv.Itoa(i+1)
	return &iam.Granted{Name: name, ID: name, Text: text, Document: doc}, nil
}

func inOrder(text string, kind language.Kind) (*language.Document, error) {
	doc, err := language.Parse([]byte(text))
	if err == nil {
		err = doc.Check(kind)
	}
	if err != nil {
		return nil, hearth.Errorf(hearth.InvalidInput, "%s", err)
	}
	return doc, nil
}

// cost is at most what it takes to judge, in the unit of maxWork, and to say
// which statements matched.
func (t *trial) cost(action, resource string) int {
	return t.size*(len(action)+len(resource)+t.contextSize) + t.statements<<14
}

// The sorts of policies, in the words that the service's answers have.
const (
	identityPolicy = "IAM Policy"
	resourcePolicy = "Resource Policy"
	boundaryPolicy = "Permissions Boundary Policy"
)

var decisions = map[language.Outcome]string{language.Allowed: "allowed", language.ExplicitDeny: "explicitDeny", language.ImplicitDeny: "implicitDeny"}

func (t *trial) result(judge *access.Judge, action, resource string) evaluationResult {
	owner := t.owner
	if parts := strings.SplitN(resource, ":", 6); len(parts) == 6 && parts[4] != "" {
		owner = hearth.Account(parts[4])
	}
	v := judge.Simulate(&access.Request{
		Caller: t.caller, Action: action, Resource: resource, Account: owner, Context: t.context, Policy: t.resource,
	}, &t.permissions)
	out := evaluationResult{
		EvalActionName: action, EvalResourceName: resource, EvalDecision: decisions[v.Outcome], MissingContextValues: v.Missing,
	}
	for _, m := range v.Matched {
		out.MatchedStatements = append(out.MatchedStatements, t.statement(m))
	}
	if t.permissions.Boundary != nil {
		out.PermissionsBoundaryDecisionDetail = &boundaryDetail{!v.Bounded}
	}
	if resource == "*" {
		return out
	}
	details := query.Map{}
	if owner != "" && owner != t.caller.Account {
		details[identityPolicy], details[resourcePolicy] = decisions[v.Identity], decisions[v.Resource]
		if t.permissions.Boundary != nil {
			details[boundaryPolicy] = decisions[language.Allowed]
			if v.Bounded {
				details[boundaryPolicy] = decisions[language.ImplicitDeny]
			}
		}
	}
	out.EvalDecisionDetails = &details
	out.ResourceSpecificResults = &query.List[resourceResult]{{
		resource, out.EvalDecision, out.MatchedStatements, out.MissingContextValues, out.EvalDecisionDetails, out.PermissionsBoundaryDecisionDetail,
	}}
	return out
}

// statement tells where a statement stands.
func (t *trial) statement(m access.Match) matched {
	out, text := matched{SourcePolicyId: "ResourcePolicy", SourcePolicyType: resourcePolicy}, t.resourceText
	if m.Of != nil {
		out.SourcePolicyId, out.SourcePolicyType, text = m.Of.ID, identityPolicy, m.Of.Text
	}
	at := t.places[text][m.Statement]
	out.StartPosition, out.EndPosition = at.Start, at.End
	return out
}

type contextKeysOutput struct{ ContextKeyNames query.List[string] }

type contextKeysInput struct {
	PolicyInputList []string `query:"required"`
}

// contextKeysForCustom lists what policies ask about.
func (s *service) contextKeysForCustom(_ context.Context, _ *query.Call, in *contextKeysInput) (*contextKeysOutput, error) {
	return contextKeys(nil, in.PolicyInputList)
}

type principalKeysInput struct {
	PolicySourceArn string `query:"required"`
	PolicyInputList []string
}

func (s *service) contextKeysForPrincipal(_ context.Context, c *query.Call, in *principalKeysInput) (*contextKeysOutput, error) {
	p, _, err := s.dir.PermissionsByARN(c.Caller.Account, in.PolicySourceArn)
	if err != nil {
		return nil, err
	}
	return contextKeys(p.Policies, in.PolicyInputList)
}

func contextKeys(granted []iam.Granted, more []string) (*contextKeysOutput, error) {
	var all []string
	for _, g := range granted {
		all = append(all, g.Document.Keys()...)
	}
	for _, text := range more {
		doc, err := inOrder(text, language.Identity)
		if err != nil {
			return nil, err
		}
		all = append(all, doc.Keys()...)
	}
	slices.Sort(all)
	return &contextKeysOutput{slices.Compact(all)}, nil
}
