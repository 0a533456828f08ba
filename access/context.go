package access

import (
	"maps"
	"strings"

	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/policy"
)

// context is what conditions may ask about a request. Of one that did not come,
// which is simulated, they can't ask how it came, nor about the resource's tags.
func (j *Judge) context(r *Request, p *iam.Permissions, came bool) map[string][]string {
	c := policy.ContextOf(r.Caller, j.clock.Now())
	sort := "Anonymous"
	switch {
	case r.Caller.Service != "":
		sort = "AWSService"
	case strings.HasSuffix(r.Caller.ARN, ":root"):
		sort = "Account"
	case strings.Contains(r.Caller.ARN, ":user/"):
		sort = "User"
		c["aws:username"] = []string{r.Caller.ARN[strings.LastIndexByte(r.Caller.ARN, '/')+1:]}
	case strings.Contains(r.Caller.ARN, ":assumed-role/"), strings.Contains(r.Caller.ARN, ":role/"):
		sort = "AssumedRole"
	}
	c["aws:principaltype"] = []string{sort}
	if came {
		c["aws:securetransport"] = []string{"false"}
	}
	if r.Account != "" {
		c["aws:resourceaccount"] = []string{string(r.Account)}
	} else if r.Caller.Account != "" {
		c["aws:resourceaccount"] = []string{string(r.Caller.Account)}
	}
	if p != nil {
		c["aws:principalarn"] = []string{p.ARN}
		for _, t := range p.Tags {
			c["aws:principaltag/"+strings.ToLower(t.Key)] = []string{t.Value}
		}
	}
	// What tags another account's resources have, policies can't find out.
	if came && j.tags != nil && (r.Account == "" || r.Caller.Account == "" || r.Account == r.Caller.Account) {
		for key, value := range j.tags(r.Resource) {
			c["aws:resourcetag/"+strings.ToLower(key)] = []string{value}
		}
	}
	maps.Copy(c, r.Context)
	return c
}
