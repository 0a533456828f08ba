package server

import (
	"context"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/execution"
	"github.com/hearth-faas/hearth/store"
)

func (s *Server) openPolicies(ctx context.Context) (err error) {
	if s.policies, err = execution.Open(ctx, s.records, s.policyChanged); err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	return nil
}

// policyChanged tells those who go by the policies that one has changed.
func (s *Server) policyChanged(account hearth.Account, function string) {
	if s.manager != nil { // else it reads them when it is made
		s.manager.PolicyChanged(account, function)
		s.tellNodes(func(n hearth.Node) { n.PolicyChanged(account, function) })
	}
}

// executionPolicies are the policies as users set them: of functions that there
// are.
type executionPolicies struct{ s *Server }

func (e executionPolicies) Own(account hearth.Account, function string) *hearth.ExecutionPolicy {
	return e.s.policies.Own(account, function)
}

func (e executionPolicies) Of(account hearth.Account, function string) *hearth.ExecutionPolicy {
	return e.s.policies.Of(account, function)
}

func (e executionPolicies) Set(ctx context.Context, account hearth.Account, function string, p *hearth.ExecutionPolicy) error {
	if function != "" && p != nil {
		if _, err := e.s.registry.Resolve(ctx, account, function, ""); err != nil {
			return err
		}
	}
	return e.s.policies.Set(ctx, account, function, p)
}
