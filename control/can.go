package control

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

// Access tells who may do what. Safe for concurrent use.
type Access interface {
	// Can judges what would come of an action of somebody of the account, who is
	// a user's or a role's name or ARN, or root. What conditions may ask about
	// beside who and when is in about. Errors: InvalidParameterValue,
	// ResourceNotFound for one that there is not.
	Can(ctx context.Context, account hearth.Account, who, action, resource string, about map[string][]string) (Can, error)
}

// Can is the answer of /can.
type Can struct {
	Who      string `json:"who"` // an ARN
	Action   string `json:"action"`
	Resource string `json:"resource"`
	Allowed  bool   `json:"allowed"`
	Explicit bool   `json:"explicit"` // a statement denies it
	Why      string `json:"why"`
	// By is the policy that decided, and Statement the statement of it, with its
	// id, if it has one.
	By        string          `json:"by,omitempty"`
	SID       string          `json:"sid,omitempty"`
	Statement json.RawMessage `json:"statement,omitempty"`
}

func (h *Handler) can(ctx context.Context, a ask) (any, error) {
	about := map[string][]string{}
	for _, pair := range a.q["context"] {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, hearth.Errorf(hearth.InvalidParameter, "context: %q is no KEY=VALUE.", pair)
		}
		key = strings.ToLower(key)
		about[key] = append(about[key], value)
	}
	for _, name := range []string{"who", "action"} {
		if _, err := needed(a, name); err != nil {
			return nil, err
		}
	}
	account, err := h.whose(a)
	if err != nil {
		return nil, err
	}
	return h.Access.Can(ctx, hearth.Account(account), a.q.Get("who"), a.q.Get("action"), a.q.Get("resource"), about)
}

// Can asks what would come of an action; account "" is the caller's.
func (c *Client) Can(ctx context.Context, account, who, action, resource string, about []string) (Can, error) {
	v := ofAccount(account)
	v.Set("who", who)
	v.Set("action", action)
	set(v, "resource", resource)
	v["context"] = about
	return get[Can](ctx, c, "/can", v)
}

// mayUse tells whether somebody may use a path: root may, and others whom the
// policies allow it.
func (h *Handler) mayUse(ctx context.Context, id hearth.Identity, path string, q url.Values) error {
	if id.Policy == "" && strings.HasSuffix(id.ARN, ":root") {
		return nil
	}
	action := actionNames()[path]
	if h.Authorize == nil || action == "" {
		return hearth.Errorf(hearth.AccessDenied, "%s is not the account's root, who alone may look here.", id.ARN)
	}
	resource := "*"
	if f := q.Get("function"); f != "" {
		resource = "arn:aws:lambda:" + h.Region + ":" + string(id.Account) + ":function:" + f
	}
	return h.Authorize(ctx, id, action, resource)
}
