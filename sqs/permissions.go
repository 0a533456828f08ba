package sqs

import (
	"context"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/policy"
)

// Allowed tells whether a caller may do something with a queue: its own
// account may unless the queue's policy denies it, others, and services, if it
// allows it. action is without its sqs:, such as SendMessage; about is what
// conditions may ask beside who calls, when, and how the request came that ctx
// serves, by the key in lower case, such as aws:sourcearn. A queue that does not exist has no policy, so that others
// learn nothing of it. Errors: AccessDenied.
func (s *Service) Allowed(ctx context.Context, id hearth.Identity, action string, account hearth.Account, name string, about map[string][]string) error {
	d := s.Policy(account, name)
	own := id.Service == "" && id.Account == account
	if s.cfg.Judge != nil && !(own && access.IsRoot(id)) {
		if own && OnPolicy(action) {
			d = nil // who may change it can't be shut out by it
		}
		return s.cfg.Judge.Check(ctx, &access.Request{
			Caller: id, Action: "sqs:" + action, Resource: s.ARN(account, name), Account: account, Context: about, Policy: d,
		})
	}
	if own && (d == nil || OnPolicy(action)) {
		return nil
	}
	r := policy.Request{
		Principal: policy.PrincipalOf(id), Action: "sqs:" + action, Resource: s.ARN(account, name),
		Context: access.ContextOf(ctx, id, s.cfg.Clock.Now(), s.cfg.Region),
	}
	for k, v := range about {
		r.Context[k] = v
	}
	if o, _ := d.Evaluate(&r); o != policy.Allowed && (!own || o == policy.ExplicitDeny) {
		return policy.Denial(&r, o)
	}
	return nil
}

// OnPolicy tells the actions, without sqs:, that a queue's own account always may: one that
// had shut itself out of a policy could not open it again.
func OnPolicy(action string) bool {
	switch action {
	case "AddPermission", "RemovePermission", "SetQueueAttributes", "GetQueueAttributes", "DeleteQueue":
		return true
	}
	return false
}

// Policy is the policy of a queue; nil if it has none, or is none.
func (s *Service) Policy(account hearth.Account, name string) *policy.Document {
	q, err := s.find(account, name)
	if err != nil {
		return nil
	}
	return q.set.Load().policy
}

// shareable are the actions that AddPermission gives.
var shareable = map[string]bool{
	"*": true, "SendMessage": true, "ReceiveMessage": true, "DeleteMessage": true,
	"ChangeMessageVisibility": true, "GetQueueAttributes": true, "GetQueueUrl": true,
}

// AddPermission lets accounts do things with a queue, by a statement of its
// policy. Errors: NoQueue, InvalidParameter, OverLimit, Service.
func (s *Service) AddPermission(_ context.Context, account hearth.Account, name, label string, accounts, actions []string) error {
	switch {
	case !queueName.MatchString(label):
		return invalidParameter("Label", label, "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length.")
	case len(accounts) == 0:
		return missing("AWSAccountIds")
	case len(actions) == 0:
		return missing("Actions")
	case len(actions) > 7:
		return hearth.Errorf(OverLimit, "%d Actions were found, maximum allowed is 7.", len(actions))
	}
	st := policy.Statement{SID: label, Effect: policy.Allow, Principal: &policy.Principals{}, Resource: []string{s.ARN(account, name)}}
	for _, a := range accounts {
		st.Principal.AWS = append(st.Principal.AWS, policy.AccountARN(a))
	}
	if st.Principal.Check() != nil {
		return invalidParameter("PrincipalId", accounts, "Unable to verify: an account has twelve digits.")
	}
	for _, a := range actions {
		if !shareable[a] {
			return invalidParameter("ActionName", a, "Please refer to the appropriate WSDL for a list of valid actions.")
		}
		st.Action = append(st.Action, "SQS:"+a)
	}
	return s.configure(account, name, func(r *queueRecord) error {
		d := &policy.Document{Version: "2012-10-17", ID: s.ARN(account, name) + "/SQSDefaultPolicy"}
		if text := r.Attributes["Policy"]; text != "" {
			var err error
			if d, err = policy.Parse([]byte(text)); err != nil {
				return err
			}
		}
		for _, was := range d.Statements {
			if was.SID == label {
				return invalidParameter("Label", label, "Already exists.")
			}
		}
		d.Statements = append(d.Statements, st)
		r.Attributes["Policy"] = d.String()
		return nil
	})
}

// RemovePermission removes a statement of a queue's policy. Errors: NoQueue,
// InvalidParameter, Service.
func (s *Service) RemovePermission(_ context.Context, account hearth.Account, name, label string) error {
	return s.configure(account, name, func(r *queueRecord) error {
		d := &policy.Document{}
		if text := r.Attributes["Policy"]; text != "" {
			var err error
			if d, err = policy.Parse([]byte(text)); err != nil {
				return err
			}
		}
		var kept []policy.Statement
		for _, st := range d.Statements {
			if st.SID != label {
				kept = append(kept, st)
			}
		}
		switch {
		case len(kept) == len(d.Statements):
			return invalidParameter("Label", strings.ToValidUTF8(label, "?"), "can't find label on existing policy.")
		case len(kept) == 0:
			delete(r.Attributes, "Policy")
			return nil
		}
		d.Statements = kept
		r.Attributes["Policy"] = d.String()
		return nil
	})
}
