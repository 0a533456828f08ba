package policy

import (
	"strconv"
	"time"

	"github.com/hearth-faas/hearth"
)

// PrincipalOf is who an identity is to policies.
func PrincipalOf(id hearth.Identity) Principal {
	return Principal{Account: string(id.Account), ARN: id.ARN, Service: id.Service}
}

// ContextOf is what conditions may ask of every request: who makes it, and
// when.
func ContextOf(id hearth.Identity, now time.Time) map[string][]string {
	now = now.UTC()
	c := map[string][]string{
		"aws:currenttime":           {now.Format(time.RFC3339)},
		"aws:epochtime":             {strconv.FormatInt(now.Unix(), 10)},
		"aws:principalisawsservice": {strconv.FormatBool(id.Service != "")},
		"aws:viaawsservice":         {"false"}, // none calls another with what its caller signed
	}
	if id.Issued != 0 {
		c["aws:tokenissuetime"] = []string{time.Unix(id.Issued, 0).UTC().Format(time.RFC3339)}
		c["aws:multifactorauthpresent"] = []string{"false"} // which only sessions can say
	}
	arn := id.ARN
	if role, ok := RoleOf(arn); ok {
		arn = role
	}
	for key, value := range map[string]string{
		"aws:principalarn": arn, "aws:principalaccount": string(id.Account), "aws:userid": id.UserID, "aws:principalservicename": id.Service, "aws:sourceidentity": id.Source,
	} {
		if value != "" {
			c[key] = []string{value}
		}
	}
	return c
}

// name is how a denial calls the principal.
func (p Principal) name() string {
	switch {
	case p.ARN != "":
		return p.ARN
	case p.Service != "":
		return p.Service
	case p.Federated != "":
		return p.Federated
	}
	return "anonymous"
}

// Denial is the answer to a request that a resource's policy did not allow,
// in the service's words.
func Denial(r *Request, o Outcome) *hearth.Error {
	if o == ExplicitDeny {
		return hearth.Errorf(hearth.AccessDenied, "User: %s is not authorized to perform: %s on resource: %s with an explicit deny in a resource-based policy",
			r.Principal.name(), r.Action, r.Resource)
	}
	return hearth.Errorf(hearth.AccessDenied, "User: %s is not authorized to perform: %s on resource: %s because no resource-based policy allows the %s action",
		r.Principal.name(), r.Action, r.Resource, r.Action)
}
