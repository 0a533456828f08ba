package lambda

import (
	"maps"
	"strings"

	hearth "github.com/hearth-faas/hearth"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

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
			UnreservedConcurrentExecutions: new(int32(h.Concurrency)),
		},
		AccountUsage: &types.AccountUsage{TotalCodeSize: usage.CodeBytes, FunctionCount: int64(usage.Functions)},
	}, nil
}

// taggable reads the ARN of a function that can have tags.
func (h *Handler) taggable(c *call, resource *string, action string) (target, error) {
	if !strings.Contains(str(resource), ":function:") {
		return target{}, notBuilt("%s on a resource that is no function", action)
	}
	t, err := h.target(c, resource, nil, action)
	if err == nil && t.qualifier != "" {
		err = hearth.Errorf(hearth.InvalidParameter, "Tags on function aliases and versions are not supported. Please specify a function ARN.")
	}
	return t, err
}

func (h *Handler) listTags(c *call, in *sdk.ListTagsInput) (smithy.Serializable, error) {
	t, err := h.taggable(c, in.Resource, "ListTags")
	if err != nil {
		return nil, err
	}
	tags, err := h.Registry.Tags(c.ctx, t.account, t.name)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListTagsOutput{Tags: map[string]string{}}
	maps.Copy(out.Tags, tags)
	return out, nil
}

func (h *Handler) tagResource(c *call, in *sdk.TagResourceInput) (smithy.Serializable, error) {
	t, err := h.taggable(c, in.Resource, "TagResource")
	if err != nil {
		return nil, err
	}
	if len(in.Tags) == 0 {
		return nil, hearth.Errorf(hearth.InvalidParameter, "An error occurred and the request cannot be processed.")
	}
	return &sdk.TagResourceOutput{}, h.Registry.Tag(c.ctx, t.account, t.name, in.Tags)
}

func (h *Handler) untagResource(c *call, in *sdk.UntagResourceInput) (smithy.Serializable, error) {
	t, err := h.taggable(c, in.Resource, "UntagResource")
	if err != nil {
		return nil, err
	}
	return &sdk.UntagResourceOutput{}, h.Registry.Untag(c.ctx, t.account, t.name, in.TagKeys)
}
