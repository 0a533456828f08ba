package iam

import (
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
)

// PassToService tells whether a service, such as scheduler.amazonaws.com, may be
// given a role for what sourceARN names, as PassToFunction does for functions.
// Errors: Validation.
func (d *Directory) PassToService(account hearth.Account, roleARN, service, sourceARN string) error {
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
	context := map[string][]string{
		"aws:currenttime":           {d.cfg.Clock.Now().UTC().Format(time.RFC3339)},
		"aws:sourcearn":             {sourceARN},
		"aws:sourceaccount":         {string(account)},
		"aws:principalservice":      {service},
		"aws:principalisawsservice": {"true"},
		"aws:principalservicename":  {service},
	}
	return r.trusts(policy.Principal{Service: service}, "sts:AssumeRole", context) == policy.Allowed
}
