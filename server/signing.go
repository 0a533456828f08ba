package server

import (
	"context"
	"io"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/signing"
	"github.com/hearth-faas/hearth/store"
)

// openSigning opens the code signing configurations. The registry, which is
// opened after them, tells which are used.
func (s *Server) openSigning(ctx context.Context, records store.Store) (err error) {
	s.signing, err = signing.Open(ctx, signing.Options{
		Store: records, Clock: s.clock, Region: s.cfg.Region, Log: s.log,
		Profiles: signing.Profiles{Dir: s.dir(signing.FolderName), Account: string(s.cfg.Account), Region: s.cfg.Region},
		Used: func(account hearth.Account, arn string) bool {
			for c := range s.registry.EverySettings() {
				if c.Account == account && c.Settings.CodeSigningConfig == arn {
					return true
				}
			}
			return false
		},
	})
	return err
}

// verify is the registry's check of signatures.
func (s *Server) verify(ctx context.Context, account hearth.Account, config, what string, archive io.ReaderAt, size int64) (profile, job string, err error) {
	claims, err := s.signing.Verify(ctx, account, config, what, archive, size)
	return claims.ProfileVersion, claims.Job, err
}
