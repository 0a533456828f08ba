package control

import (
	"net/url"
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

// named has a query name a function as its account does, whether that was by
// its name or by its ARN. Errors: ResourceNotFound of an ARN that is no function
// of the account's here.
func (h *Handler) named(q url.Values, account hearth.Account) error {
	f := q.Get("function")
	if !strings.HasPrefix(f, "arn:") {
		return nil
	}
	name, ok := strings.CutPrefix(f, "arn:aws:lambda:"+h.Region+":"+string(account)+":function:")
	if !ok || name == "" {
		return hearth.Errorf(hearth.NotFound, "%s is no function of the account %s in %s.", f, account, h.Region)
	}
	q.Set("function", name)
	return nil
}

// ofAll is the function that a query is about, all versions of it together; ""
// if it names none. Errors: InvalidParameterValue of a version or an alias.
func ofAll(q url.Values) (string, error) {
	f := q.Get("function")
	if name, qualifier, ok := strings.Cut(f, ":"); ok {
		return "", hearth.Errorf(hearth.InvalidParameter, "What is asked for is kept of all versions of %s together: leave %q out.", name, ":"+qualifier)
	}
	return f, nil
}
