package server

import (
	"context"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/share"
	"github.com/hearth-faas/hearth/store"
)

// openShares opens what accounts let each other run.
func (s *Server) openShares(ctx context.Context) (err error) {
	s.shares, err = share.Open(ctx, share.Config{
		Store: s.records, Functions: s.registry, Seal: s.authority.Key(), Clock: s.clock, Region: s.cfg.Region, Log: s.log,
		CheckKey: s.authority.Keys().Check, Usable: s.accounts.Usable,
		Changed: func(old, now *hearth.Function) {
			s.manager.Changed(old, now)
			s.tellNodes(func(n hearth.Node) { n.Changed(old, now) })
		},
	})
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	s.opened("shared functions", s.shares.Close)
	return nil
}

// claimed tells whether a name is a shared alias's or a task's. The registry asks while it is
// opened, too, before there are any.
func (s *Server) claimed(account hearth.Account, name string) bool {
	return s.borrowed(account, name) || s.tasks != nil && s.tasks.Claimed(account, name)
}

// borrowed tells whether a name is a shared alias's.
func (s *Server) borrowed(account hearth.Account, name string) bool {
	return s.shares != nil && s.shares.Claimed(account, name)
}

// shares are what is offered and accepted, as the control API asks for it.
type shares struct{ *share.Shares }

func (s shares) Offers(owner hearth.Account) ([]hearth.Offer, error) {
	return s.Shares.Offers(owner), nil
}

func (s shares) Offered(to hearth.Account) ([]hearth.Offer, error) { return s.Shares.Offered(to), nil }

func (s shares) Aliases(account hearth.Account) ([]hearth.SharedAlias, error) {
	return s.Shares.Aliases(account), nil
}

func (s shares) Uses(account hearth.Account) ([]hearth.SharedUse, error) {
	return s.Shares.Uses(account), nil
}
