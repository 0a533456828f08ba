package lambda

import (
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

func (h *Handler) getAccountSettings(c *call, _ *sdk.GetAccountSettingsInput) (smithy.Serializable, error) {
	usage, err := h.Registry.Usage(c.ctx, c.account())
	if err != nil {
		return nil, err
	}
	return &sdk.GetAccountSettingsOutput{
		AccountLimit: &types.AccountLimit{
			TotalCodeSize:                  totalCodeSize,
			CodeSizeUnzipped:               codeSizeUnzipped,
			CodeSizeZipped:                 codeSizeZipped,
			ConcurrentExecutions:           int32(h.Concurrency),
			UnreservedConcurrentExecutions: new(int32(h.Registry.Unreserved(c.account()))),
		},
		AccountUsage: &types.AccountUsage{TotalCodeSize: usage.CodeBytes, FunctionCount: int64(usage.Functions)},
	}, nil
}
