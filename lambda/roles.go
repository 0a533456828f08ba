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

// passRole asks whether the caller may give a function a role, and whether the
// role may be given to it; nil is the one that it has.
func (h *Handler) passRole(c *call, t target, role *string) error {
	if role == nil {
		return nil
	}
	arn := (&hearth.Function{Account: t.account, Region: h.region, Name: t.name}).ARN()
	if err := h.mayPass(c, *role, "lambda.amazonaws.com", arn); err != nil {
		return err
	}
	if h.Roles == nil {
		return nil
	}
	return h.Roles.PassToFunction(t.account, *role, arn)
}
