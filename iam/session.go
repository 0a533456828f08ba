package iam

import (
	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
)

// maxSessionPolicy bounds what session policies come to together, in bytes of
// canonical JSON: they are carried by the session's token.
const maxSessionPolicy = 8192

// SessionPolicy is one document of those beyond which a session may do nothing:
// one that is given, and managed policies of the account. Without any it is "".
// Errors: MalformedPolicy, NoSuchEntity, InvalidInput, LimitExceeded.
func (d *Directory) SessionPolicy(account hearth.Account, document string, arns []string) (string, error) {
	if document == "" && len(arns) == 0 {
		return "", nil
	}
	all := &policy.Document{Version: "2012-10-17"}
	add := func(text string) error {
		if err := checkDocument(text, policy.Identity); err != nil {
			return err
		}
		doc, err := policy.Parse([]byte(text))
		if err != nil {
			return hearth.Errorf(hearth.MalformedPolicy, "%s", err)
		}
		all.Statements = append(all.Statements, doc.Statements...)
		return nil
	}
	if document != "" {
		if err := add(document); err != nil {
			return "", err
		}
	}
	for _, arn := range arns {
		p, err := d.Policy(account, arn)
		if err != nil {
			return "", err
		}
		v := p.Version(p.Default)
		if v == nil {
			return "", noPolicy(arn)
		}
		if err := add(v.Document); err != nil {
			return "", err
		}
	}
	text, err := all.MarshalJSON()
	if err != nil {
		return "", err
	}
	if len(text) > maxSessionPolicy {
		return "", hearth.Errorf(hearth.LimitExceeded, "The session policies are too large together: %d bytes, of at most %d.", len(text), maxSessionPolicy)
	}
	return string(text), nil
}
