package capacity

import (
	"context"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/tags"
)

// Tags returns a provider's tags. Errors: ResourceNotFound.
func (ps *Providers) Tags(_ context.Context, account hearth.Account, name string) (map[string]string, error) {
	p, err := ps.Get(account, name)
	if err != nil {
		return nil, err
	}
	return p.Tags, nil
}

// Tag adds tags to a provider. Errors: those of Update, and
// InvalidParameterValue if there would be too many.
func (ps *Providers) Tag(ctx context.Context, account hearth.Account, name string, more map[string]string) error {
	_, err := ps.Update(ctx, account, name, func(p *Provider) (err error) {
		p.Tags, err = tags.With(p.Tags, more)
		return err
	})
	return err
}

// Untag removes tags from a provider. Errors: those of Update.
func (ps *Providers) Untag(ctx context.Context, account hearth.Account, name string, keys []string) error {
	_, err := ps.Update(ctx, account, name, func(p *Provider) error {
		p.Tags = tags.Without(p.Tags, keys)
		return nil
	})
	return err
}
