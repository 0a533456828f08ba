package lambda

import (
	hearth "github.com/hearth-faas/hearth"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

var accountOperations = operationTable{
	"GetAccountSettings": serve((*Handler).getAccountSettings),
}

// Limits of an account that GetAccountSettings tells, in bytes.
const (
	totalCodeSize    = 80_530_636_800
	codeSizeUnzipped = 262_144_000
	codeSizeZipped   = 52_428_800
)

// Quota bounds an account; 0 is what every account may have.
type Quota struct {
	Concurrency int
	CodeBytes   int64
	Requests    int // of the API beside invocations, in a second
}

// quota is what an account may have.
func (h *Handler) quota(account hearth.Account) Quota {
	var q Quota
	if h.Quota != nil {
		q = h.Quota(account)
	}
	if q.Concurrency == 0 {
		q.Concurrency = h.Concurrency
	}
	if q.CodeBytes == 0 {
		q.CodeBytes = totalCodeSize
	}
	if q.Requests == 0 {
		q.Requests = h.Rate
	}
	return q
}

func (h *Handler) getAccountSettings(c *call, _ *sdk.GetAccountSettingsInput) (smithy.Serializable, error) {
	usage, err := h.Registry.Usage(c.ctx, c.account())
	if err != nil {
		return nil, err
	}
	quota := h.quota(c.account())
	return &sdk.GetAccountSettingsOutput{
		AccountLimit: &types.AccountLimit{
			TotalCodeSize:                  quota.CodeBytes,
			CodeSizeUnzipped:               codeSizeUnzipped,
			CodeSizeZipped:                 codeSizeZipped,
			ConcurrentExecutions:           int32(quota.Concurrency),
			UnreservedConcurrentExecutions: new(int32(h.Registry.Unreserved(c.account()))),
		},
		AccountUsage: &types.AccountUsage{TotalCodeSize: usage.CodeBytes, FunctionCount: int64(usage.Functions)},
	}, nil
}
