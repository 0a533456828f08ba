package wire

import (
	"cmp"
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/query"
)

// Bounds of sessions, in seconds.
const (
	minSession     = 900
	chainedSession = 3600   // of a role that was taken on from a role
	rootSession    = 3600   // of GetSessionToken for root
	userSession    = 43200  // of GetSessionToken for a user who says nothing
	tokenSession   = 129600 // of GetSessionToken for others
	assumeDefault  = 3600
)

// stsMembers are the constraints of STS's members.
var stsMembers = query.Members{
	"RoleArn":         {Min: 20, Max: 2048},
	"RoleSessionName": {Min: 2, Max: 64, Pattern: query.Pattern(`[\w+=,.@-]*`)},
	"ExternalId":      {Min: 2, Max: 1224, Pattern: query.Pattern(`[\w+=,.@:\/-]*`)},
	"SourceIdentity":  {Min: 2, Max: 64, Pattern: query.Pattern(`[\w+=,.@-]*`)},
	"Policy":          {Min: 1, Max: 2048, Pattern: query.Pattern(textExpr)},
	"PolicyArns":      {Max: 10},
	"Arn":             {Min: 20, Max: 2048},
	"AccessKeyId":     {Min: 16, Max: 128, Pattern: query.Pattern(`[\w]*`)},
	"Tags":            {Max: 50},
	"Key":             members["Key"],
	"Value":           members["Value"],
}

// tokens is STS over a directory of roles and an authority that makes
// credentials.
type tokens struct {
	dir       *iam.Directory
	authority *identity.Authority
	judge     *access.Judge
}

// STS serves STS: who a caller is, and credentials for a role or for root that
// end by themselves. The judge says who may ask for what; nil is that everybody
// of an account may.
func STS(dir *iam.Directory, authority *identity.Authority, judge *access.Judge) *query.Service {
	s := &tokens{dir, authority, judge}
	return &query.Service{
		Name: "STS", Version: "2011-06-15", Namespace: "https://sts.amazonaws.com/doc/2011-06-15/",
		Beyond: query.Beyond("STS", "GetCallerIdentity, AssumeRole, GetSessionToken and GetAccessKeyInfo",
			"AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "AssumeRoot", "DecodeAuthorizationMessage",
			"GetDelegatedAccessToken", "GetFederationToken", "GetWebIdentityToken"),
		Authorize: s.authorize,
		Operations: map[string]query.Operation{
			"GetCallerIdentity": query.Serve(stsMembers, s.getCallerIdentity),
			"AssumeRole":        query.Serve(stsMembers, s.assumeRole),
			"GetSessionToken":   query.Serve(stsMembers, s.getSessionToken),
			"GetAccessKeyInfo":  query.Serve(stsMembers, s.getAccessKeyInfo),
		},
	}
}

type callerIdentityOutput struct {
	Arn     string
	UserId  string
	Account string
}

func (s *tokens) getCallerIdentity(_ context.Context, c *query.Call, _ *struct{}) (*callerIdentityOutput, error) {
	return &callerIdentityOutput{c.Caller.ARN, c.Caller.UserID, string(c.Caller.Account)}, nil
}

// credentials are a session's in an output.
type credentials struct {
	AccessKeyId     string
	SecretAccessKey string
	SessionToken    string
	Expiration      query.Time
}

func credentialsOf(s identity.Session) credentials {
	return credentials{s.AccessKeyID, s.SecretAccessKey.Reveal(), s.SessionToken.Reveal(), query.Time(s.Expires)}
}

type assumeRoleInput struct {
	RoleArn         string `query:"required"`
	RoleSessionName string `query:"required"`
	DurationSeconds *int
	ExternalId      string
	SourceIdentity  string
	Tags            []tag
	// What a session passes on when it takes on another role, and what others
	// say of the caller, is not kept.
	TransitiveTagKeys []string
	ProvidedContexts  []struct{ ProviderArn, ContextAssertion string }
	Policy            string
	PolicyArns        []policyArn
	SerialNumber      string
	TokenCode         string
}

type policyArn struct {
	Arn string `query:"required" form:"arn"`
}

type assumedRole struct {
	AssumedRoleId string
	Arn           string
}

type assumeRoleOutput struct {
	Credentials     credentials
	AssumedRoleUser assumedRole
	SourceIdentity  string `xml:",omitempty"`
}

// assumeRole gives what a role may do, or with session policies less of it.
func (s *tokens) assumeRole(ctx context.Context, c *query.Call, in *assumeRoleInput) (*assumeRoleOutput, error) {
	seconds, err := duration(in.DurationSeconds, assumeDefault, iam.MaxSession)
	switch {
	case err != nil:
		return nil, err
	case in.SerialNumber != "" || in.TokenCode != "":
		return nil, hearth.Errorf(hearth.AccessDenied, "MultiFactorAuthentication failed with invalid MFA one time pass code.")
	case !strings.HasPrefix(in.RoleArn, "arn:"):
		return nil, hearth.Errorf(hearth.Validation, "%s is invalid", in.RoleArn)
	case len(in.TransitiveTagKeys) > 0:
		return nil, hearth.Errorf(hearth.NotBuilt, "Tags that a session passes on to the next (TransitiveTagKeys) are not built in this version of Hearth: give each session its own.")
	case len(in.ProvidedContexts) > 0:
		return nil, hearth.Errorf(hearth.NotBuilt, "Contexts of other providers (ProvidedContexts) are not built in this version of Hearth.")
	case in.SourceIdentity != "" && c.Caller.Source != "" && in.SourceIdentity != c.Caller.Source:
		return nil, hearth.Errorf(hearth.AccessDenied, "The source identity of a session, here %s, can't be another in those that it makes.", c.Caller.Source)
	}
	source := cmp.Or(in.SourceIdentity, c.Caller.Source) // who takes on roles one after the other is still he
	tags, err := sessionTags(tagsOf(in.Tags))
	if err != nil {
		return nil, err
	}
	var identitySide func(action string, context map[string][]string) error
	if s.judge != nil {
		identitySide = func(action string, context map[string][]string) error {
			return s.judge.Check(ctx, &access.Request{Caller: c.Caller, Action: action, Resource: in.RoleArn, Account: accountOf(in.RoleArn), Context: context, Open: true})
		}
	}
	r, err := s.dir.Assume(iam.Assumption{
		May:    identitySide,
		Caller: c.Caller, Role: in.RoleArn, Session: in.RoleSessionName, ExternalID: in.ExternalId,
		Source: source, Tags: tagsOf(in.Tags), About: access.Came(ctx),
	})
	switch chained := strings.Contains(c.Caller.ARN, ":assumed-role/"); {
	case err != nil:
		return nil, err
	case seconds > r.MaxSession:
		return nil, hearth.Errorf(hearth.Validation, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	case chained && seconds > chainedSession:
		return nil, hearth.Errorf(hearth.Validation, "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	}
	// A list that is not read whole would make the session more than it was to be.
	var arns []string
	for name := range c.Form {
		if rest, ok := strings.CutPrefix(name, "PolicyArns.member."); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(rest, ".arn"))
			if err != nil || n < 1 || n > len(in.PolicyArns) {
				return nil, hearth.Errorf(hearth.Validation, "The parameter %.100s is not understood.", name)
			}
		}
	}
	for _, a := range in.PolicyArns {
		arns = append(arns, a.Arn)
	}
	limits, err := s.dir.SessionPolicy(r.Account, in.Policy, arns)
	if err != nil {
		return nil, err
	}
	session, err := s.authority.Mint(identity.Grant{
		Account: r.Account, Role: r.ARN(), RoleID: r.ID, Name: in.RoleSessionName, Policy: limits, Tags: tags, Source: source,
	}, time.Duration(seconds)*time.Second)
	if err != nil {
		return nil, err
	}
	return &assumeRoleOutput{
		Credentials:     credentialsOf(session),
		AssumedRoleUser: assumedRole{session.Identity.UserID, session.Identity.ARN},
		SourceIdentity:  source,
	}, nil
}

// sessionTags are a session's tags as its token has them.
func sessionTags(tags []iam.Tag) (string, error) {
	seen, values := map[string]bool{}, url.Values{}
	for _, t := range tags {
		key := strings.ToLower(t.Key)
		if seen[key] {
			return "", hearth.Errorf(hearth.InvalidInput, "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		seen[key] = true
		values.Set(t.Key, t.Value)
	}
	text := values.Encode()
	if len(text) > identity.MaxTags {
		return "", hearth.Errorf(hearth.LimitExceeded, "The tags of a session may have %d bytes as a URL's query, and these have %d.", identity.MaxTags, len(text))
	}
	return text, nil
}

// accountOf is whose a role is.
func accountOf(arn string) hearth.Account {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 {
		return hearth.Account(parts[4])
	}
	return ""
}

// duration is how many seconds a session was asked to last.
func duration(asked *int, otherwise, most int) (int, error) {
	if asked == nil {
		return otherwise, nil
	}
	relation, bound := "", 0
	switch {
	case *asked < minSession:
		relation, bound = "greater", minSession
	case *asked > most:
		relation, bound = "less", most
	default:
		return *asked, nil
	}
	return 0, hearth.Errorf(hearth.Validation,
		"1 validation error detected: Value '%d' at 'durationSeconds' failed to satisfy constraint: Member must have value %s than or equal to %d", *asked, relation, bound)
}

type getSessionTokenInput struct {
	DurationSeconds *int
	SerialNumber    string
	TokenCode       string
}

type getSessionTokenOutput struct{ Credentials credentials }

// getSessionToken makes credentials of root's or a user's that end by
// themselves. A session cannot ask for another one.
func (s *tokens) getSessionToken(_ context.Context, c *query.Call, in *getSessionTokenInput) (*getSessionTokenOutput, error) {
	user := strings.Contains(c.Caller.ARN, ":user/")
	otherwise, grant := rootSession, identity.Grant{Account: c.Caller.Account}
	if user {
		otherwise, grant.User, grant.UserID = userSession, c.Caller.ARN, c.Caller.UserID
	}
	seconds, err := duration(in.DurationSeconds, otherwise, tokenSession)
	switch {
	case err != nil:
		return nil, err
	case c.Temporary:
		return nil, hearth.Errorf(hearth.AccessDenied, "Cannot call GetSessionToken with session credentials")
	case in.SerialNumber != "" || in.TokenCode != "":
		return nil, hearth.Errorf(hearth.AccessDenied, "MultiFactorAuthentication failed with invalid MFA one time pass code.")
	}
	if !user { // however long root asks for: its sessions end within the hour
		seconds = min(seconds, rootSession)
	}
	session, err := s.authority.Mint(grant, time.Duration(seconds)*time.Second)
	if err != nil {
		return nil, err
	}
	return &getSessionTokenOutput{credentialsOf(session)}, nil
}

type getAccessKeyInfoInput struct {
	AccessKeyId string `query:"required"`
}

type getAccessKeyInfoOutput struct{ Account string }

func (s *tokens) getAccessKeyInfo(_ context.Context, _ *query.Call, in *getAccessKeyInfoInput) (*getAccessKeyInfoOutput, error) {
	account, ok := s.authority.AccountOf(in.AccessKeyId)
	if !ok {
		return nil, hearth.Errorf(hearth.Validation, "The access key %s is of no account here.", in.AccessKeyId)
	}
	return &getAccessKeyInfoOutput{string(account)}, nil
}
