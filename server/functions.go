package server

import (
	"context"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/share"
)

// functions are what the Lambda API finds: the registry's, and of shared aliases
// what their accounts may see. An alias's policy, URL and configuration of
// asynchronous invocation the registry keeps (registry.Config.Borrowed); what is
// its owner's to change is refused, with a word on whose it is instead.
type functions struct {
	*registry.Registry
	shares *share.Shares
}

func (f functions) Resolve(ctx context.Context, account hearth.Account, name, qualifier string) (*hearth.Function, error) {
	if f.shares.Claimed(account, name) {
		return f.Get(ctx, account, name, qualifier)
	}
	return f.Registry.Resolve(ctx, account, name, qualifier)
}

func (f functions) Get(ctx context.Context, account hearth.Account, name, qualifier string) (*hearth.Function, error) {
	if f.shares.Claimed(account, name) {
		return f.shares.View(ctx, account, name, qualifier)
	}
	return f.Registry.Get(ctx, account, name, qualifier)
}

func (f functions) Tags(ctx context.Context, account hearth.Account, name string) (map[string]string, error) {
	if f.shares.Claimed(account, name) {
		return nil, nil
	}
	return f.Registry.Tags(ctx, account, name)
}

// refused is why something can't be done with a shared alias, and what can be
// done instead; nil of every other name.
func (f functions) refused(account hearth.Account, name, why, instead string) error {
	if !f.shares.Claimed(account, name) {
		return nil
	}
	return hearth.Errorf(hearth.InvalidParameter, "%s is a shared alias: %s. %s", name, why, instead)
}

const (
	ownersCode = "its code is another account's, and tracks what that offers"
	pinInstead = "Pin one of the offer's versions with: hearth shared-alias update --version"
)

func (f functions) UpdateCode(ctx context.Context, account hearth.Account, name string, u registry.UpdateCode) (*hearth.Function, error) {
	if err := f.refused(account, name, ownersCode, pinInstead); err != nil {
		return nil, err
	}
	return f.Registry.UpdateCode(ctx, account, name, u)
}

func (f functions) UpdateConfiguration(ctx context.Context, account hearth.Account, name string, u registry.UpdateConfiguration) (*hearth.Function, error) {
	if err := f.refused(account, name, "its configuration is another account's, within whose bounds it has memory, timeout and parameters", "Change those with: hearth shared-alias update"); err != nil {
		return nil, err
	}
	return f.Registry.UpdateConfiguration(ctx, account, name, u)
}

func (f functions) Delete(ctx context.Context, account hearth.Account, name, qualifier string) error {
	if err := f.refused(account, name, "it goes with the parameters that were set for it", "Delete it with: hearth shared-alias delete"); err != nil {
		return err
	}
	return f.Registry.Delete(ctx, account, name, qualifier)
}

func (f functions) Publish(ctx context.Context, account hearth.Account, name string, p registry.Publish) (*hearth.Function, error) {
	if err := f.refused(account, name, ownersCode, pinInstead); err != nil {
		return nil, err
	}
	return f.Registry.Publish(ctx, account, name, p)
}

func (f functions) CreateAlias(ctx context.Context, account hearth.Account, name, alias string, c registry.Alias) (*hearth.Alias, error) {
	if err := f.refused(account, name, "it has no versions of its own that an alias could point to", "Accept the offer under a further name, and pin a version there, with: hearth shared-alias create --version"); err != nil {
		return nil, err
	}
	return f.Registry.CreateAlias(ctx, account, name, alias, c)
}

func (f functions) Reserve(ctx context.Context, account hearth.Account, name string, n *int) error {
	if err := f.refused(account, name, "how many of its runs there may be at a time, its offer says", "Bound the event source mapping that calls it (ScalingConfig), or call it from a function of your own that has the reservation"); err != nil {
		return err
	}
	return f.Registry.Reserve(ctx, account, name, n)
}

func (f functions) Provision(ctx context.Context, account hearth.Account, name, qualifier string, n int) (*registry.Provisioned, error) {
	if err := f.refused(account, name, "it has no version of its own to keep ready", "Invoke it now and then by a schedule"); err != nil {
		return nil, err
	}
	return f.Registry.Provision(ctx, account, name, qualifier, n)
}

func (f functions) Tag(ctx context.Context, account hearth.Account, name string, tags map[string]string) error {
	if err := f.refused(account, name, "it has no tags", "It has a description: hearth shared-alias update --description"); err != nil {
		return err
	}
	return f.Registry.Tag(ctx, account, name, tags)
}
