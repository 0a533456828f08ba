package iam

import (
	"net/url"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
)

// ContextOf is what conditions may ask about who makes a request, and when, by
// the key in lower case. p is what he may do, as far as that is known; nil is
// that it is not.
func ContextOf(id hearth.Identity, p *Permissions, now time.Time) map[string][]string {
	c := policy.ContextOf(id, now)
	sort := "Anonymous"
	switch {
	case id.Service != "":
		sort = "AWSService"
	case strings.HasSuffix(id.ARN, ":root"):
		sort = "Account"
	case strings.Contains(id.ARN, ":user/"):
		sort = "User"
		c["aws:username"] = []string{id.ARN[strings.LastIndexByte(id.ARN, '/')+1:]}
	case strings.Contains(id.ARN, ":assumed-role/"), strings.Contains(id.ARN, ":role/"):
		sort = "AssumedRole"
	}
	c["aws:principaltype"] = []string{sort}
	if p != nil {
		c["aws:principalarn"] = []string{p.ARN}
		for _, t := range p.Tags {
			c["aws:principaltag/"+strings.ToLower(t.Key)] = []string{t.Value}
		}
	}
	if id.Tags != "" {
		tags, err := url.ParseQuery(id.Tags)
		if err != nil {
			return map[string][]string{} // nothing is known of who has such: no policy allows it
		}
		for key, values := range tags {
			c["aws:principaltag/"+strings.ToLower(key)] = values
		}
	}
	return c
}
