package lambda

import (
	hearth "github.com/hearth-faas/hearth"
)

// Roles tells which roles functions may have; *iam.Directory does. Safe for
// concurrent use.
type Roles interface {
	// PassToFunction tells whether the function of the ARN may be given the
	// role. Its error is what the caller is told.
	PassToFunction(account hearth.Account, roleARN, functionARN string) error
}

// passRole asks whether a function may be given a role; nil is the one that it
// has.
func (h *Handler) passRole(t target, role *string) error {
	if h.Roles == nil || role == nil {
		return nil
	}
	return h.Roles.PassToFunction(t.account, *role, (&hearth.Function{Account: t.account, Region: h.region, Name: t.name}).ARN())
}
