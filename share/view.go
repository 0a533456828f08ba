package share

import (
	"context"

	"github.com/hearth-faas/hearth"
)

// View is a shared alias as the account's tools may see it: a function without
// code, handler, runtime, layers and environment. Errors are those of Resolve.
func (s *Shares) View(ctx context.Context, account hearth.Account, name, qualifier string) (*hearth.Function, error) {
	f, err := s.Resolve(ctx, account, name, qualifier)
	if err != nil {
		return nil, err
	}
	return &hearth.Function{
		Account: f.Account, Region: f.Region, Name: f.Name, Version: f.Version, Generation: f.Generation, Description: f.Description,
		MemoryMiB: f.MemoryMiB, Timeout: f.Timeout, TmpMiB: f.TmpMiB, Architectures: f.Architectures, PackageType: "Zip", Logging: f.Logging,
		TracingMode: f.TracingMode, SnapStart: f.SnapStart, TenantIsolation: f.TenantIsolation,
		State: f.State, UpdateStatus: f.UpdateStatus, LastModified: f.LastModified, RevisionID: f.RevisionID,
		Shared: &hearth.Shared{Owner: f.Shared.Owner, Offer: f.Shared.Offer, Markup: f.Shared.Markup, Network: f.Shared.Network},
	}, nil
}
