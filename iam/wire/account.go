package wire

import (
	"context"

	"github.com/hearth-faas/hearth/query"
)

type listAccountAliasesOutput struct {
	AccountAliases query.List[string]
	paged
}

// listAccountAliases tells that the account goes by its number alone.
func (s *service) listAccountAliases(context.Context, *query.Call, *paging) (*listAccountAliasesOutput, error) {
	return &listAccountAliasesOutput{}, nil
}
