package iam

import (
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
)

// PassToService tells whether a service, such as scheduler.amazonaws.com, may be
// given a role for what sourceARN names, as PassToFunction does for functions.
// Errors: Validation.
func (d *Directory) PassToService(account hearth.Account, roleARN, service, sourceARN string) error {
	// A service acts as the role, and so as whose the role is.
	if !strings.HasPrefix(roleARN, "arn:aws:iam::"+string(account)+":") {
		return hearth.Errorf(hearth.Validation, "Cross-account pass role is not allowed: %s is of another account than %s", roleARN, account)
	}
	if !d.mayPass(account, roleARN, service, sourceARN) {
		return hearth.Errorf(hearth.Validation, "The execution role you provide must allow %s to assume the role: %s", service, roleARN)
	}
	return nil
}

// mayPass tells whether a service may be given a role for what sourceARN names.
func (d *Directory) mayPass(account hearth.Account, roleARN, service, sourceARN string) bool {
	r := d.RoleOf(roleARN)
	switch {
	case r == nil && !d.cfg.Strict:
		return true
	case r == nil || r.Account != account:
		return false
	}
	context := ContextOf(hearth.Identity{Service: service}, nil, d.cfg.Clock.Now())
	context["aws:sourcearn"], context["aws:sourceaccount"] = []string{sourceARN}, []string{string(account)}
	context["aws:securetransport"] = []string{"true"} // services are inside
	return r.trusts(policy.Principal{Service: service}, "sts:AssumeRole", context) == policy.Allowed
}
