package lambda

import (
	"maps"
	"slices"
	"strings"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

// concurrencyOperations are those of reserved and provisioned concurrency.
var concurrencyOperations = operationTable{
	"DeleteFunctionConcurrency":          serve((*Handler).deleteFunctionConcurrency),
	"GetFunctionConcurrency":             serve((*Handler).getFunctionConcurrency),
	"PutFunctionConcurrency":             serve((*Handler).putFunctionConcurrency),
	"DeleteProvisionedConcurrencyConfig": serve((*Handler).deleteProvisioned),
	"GetProvisionedConcurrencyConfig":    serve((*Handler).getProvisioned),
	"ListProvisionedConcurrencyConfigs":  serve((*Handler).listProvisioned),
	"PutProvisionedConcurrencyConfig":    serve((*Handler).putProvisioned),
}

// Provisioner tells how far the environments are that were asked for under a
// qualifier of a function. Safe for concurrent use.
type Provisioner interface {
	Provisioned(account hearth.Account, function, qualifier string) hearth.Provisioned
}

// nobody is the Provisioner where nothing provides.
type nobody struct{}

func (nobody) Provisioned(hearth.Account, string, string) hearth.Provisioned {
	return hearth.Provisioned{State: hearth.ProvisionInProgress}
}

// concurrencyOf is nil if the function has none reserved.
func concurrencyOf(s *registry.Settings) *types.Concurrency {
	if s.ReservedConcurrency == nil {
		return nil
	}
	return &types.Concurrency{ReservedConcurrentExecutions: new(int32(*s.ReservedConcurrency))}
}

func (h *Handler) putFunctionConcurrency(c *call, in *sdk.PutFunctionConcurrencyInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "PutFunctionConcurrency")
	if err != nil {
		return nil, err
	}
	n := *in.ReservedConcurrentExecutions
	if err := h.Registry.Reserve(c.ctx, t.account, t.name, new(int(n))); err != nil {
		return nil, err
	}
	return &sdk.PutFunctionConcurrencyOutput{ReservedConcurrentExecutions: &n}, nil
}

func (h *Handler) getFunctionConcurrency(c *call, in *sdk.GetFunctionConcurrencyInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "GetFunctionConcurrency")
	if err != nil {
		return nil, err
	}
	s, err := h.Registry.Settings(c.ctx, t.account, t.name, "")
	if err != nil {
		return nil, err
	}
	out := &sdk.GetFunctionConcurrencyOutput{}
	if s.ReservedConcurrency != nil {
		out.ReservedConcurrentExecutions = new(int32(*s.ReservedConcurrency))
	}
	return out, nil
}

func (h *Handler) deleteFunctionConcurrency(c *call, in *sdk.DeleteFunctionConcurrencyInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "DeleteFunctionConcurrency")
	if err != nil {
		return nil, err
	}
	if err := h.Registry.Reserve(c.ctx, t.account, t.name, nil); err != nil {
		return nil, err
	}
	return &sdk.DeleteFunctionConcurrencyOutput{}, nil
}

// provisionable reads what a provisioned concurrency configuration is of: a
// published version or an alias, which must be there. latest is the answer to
// who asks for it of $LATEST.
func (h *Handler) provisionable(c *call, name, qualifier *string, action, latest string) (target, error) {
	t, err := h.target(c, name, qualifier, action)
	if err != nil {
		return t, err
	}
	if t.qualifier == "" || t.qualifier == hearth.Latest {
		return t, hearth.Errorf(hearth.InvalidParameter, "%s", latest)
	}
	if isNumber(t.qualifier) {
		_, err = h.Registry.Get(c.ctx, t.account, t.name, t.qualifier)
	} else {
		_, err = h.Registry.Alias(c.ctx, t.account, t.name, t.qualifier)
	}
	return t, err
}

const (
	notPublished = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
	noneOfLatest = "The function resource provided must be an alias or a published version."
)

// provisionedAt spells a time as these operations do.
func provisionedAt(t time.Time) *string { return new(t.UTC().Format("2006-01-02T15:04:05+0000")) }

// provisionedOf is a configuration with what has come of it.
func (h *Handler) provisionedOf(t target, qualifier string, p *registry.Provisioned) *types.ProvisionedConcurrencyConfigListItem {
	now := h.Provisioner.Provisioned(t.account, t.name, qualifier)
	return &types.ProvisionedConcurrencyConfigListItem{
		FunctionArn:                              new("arn:aws:lambda:" + h.region + ":" + string(t.account) + ":function:" + t.name + ":" + qualifier),
		RequestedProvisionedConcurrentExecutions: new(int32(p.Requested)),
		AllocatedProvisionedConcurrentExecutions: new(int32(now.Allocated)),
		AvailableProvisionedConcurrentExecutions: new(int32(now.Available)),
		LastModified:                             provisionedAt(p.Modified),
		Status:                                   types.ProvisionedConcurrencyStatusEnum(now.State),
		StatusReason:                             optional(now.Reason),
	}
}

func (h *Handler) putProvisioned(c *call, in *sdk.PutProvisionedConcurrencyConfigInput) (smithy.Serializable, error) {
	t, err := h.provisionable(c, in.FunctionName, in.Qualifier, "PutProvisionedConcurrencyConfig", notPublished)
	if err != nil {
		return nil, err
	}
	p, err := h.Registry.Provision(c.ctx, t.account, t.name, t.qualifier, int(*in.ProvisionedConcurrentExecutions))
	if err != nil {
		return nil, err
	}
	now := h.provisionedOf(t, t.qualifier, p)
	return &sdk.PutProvisionedConcurrencyConfigOutput{
		RequestedProvisionedConcurrentExecutions: now.RequestedProvisionedConcurrentExecutions,
		AllocatedProvisionedConcurrentExecutions: now.AllocatedProvisionedConcurrentExecutions,
		AvailableProvisionedConcurrentExecutions: now.AvailableProvisionedConcurrentExecutions,
		LastModified:                             now.LastModified,
		Status:                                   now.Status,
		StatusReason:                             now.StatusReason,
	}, nil
}

func (h *Handler) getProvisioned(c *call, in *sdk.GetProvisionedConcurrencyConfigInput) (smithy.Serializable, error) {
	t, err := h.provisionable(c, in.FunctionName, in.Qualifier, "GetProvisionedConcurrencyConfig", noneOfLatest)
	if err != nil {
		return nil, err
	}
	s, err := h.Registry.Settings(c.ctx, t.account, t.name, t.qualifier)
	if err != nil {
		return nil, err
	}
	if s.Provisioned == nil {
		return nil, hearth.Errorf(hearth.ProvisionedNotFound, "No Provisioned Concurrency Config found for this function")
	}
	now := h.provisionedOf(t, t.qualifier, s.Provisioned)
	return &sdk.GetProvisionedConcurrencyConfigOutput{
		RequestedProvisionedConcurrentExecutions: now.RequestedProvisionedConcurrentExecutions,
		AllocatedProvisionedConcurrentExecutions: now.AllocatedProvisionedConcurrentExecutions,
		AvailableProvisionedConcurrentExecutions: now.AvailableProvisionedConcurrentExecutions,
		LastModified:                             now.LastModified,
		Status:                                   now.Status,
		StatusReason:                             now.StatusReason,
	}, nil
}

func (h *Handler) listProvisioned(c *call, in *sdk.ListProvisionedConcurrencyConfigsInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "ListProvisionedConcurrencyConfigs")
	if err != nil {
		return nil, err
	}
	all, err := h.Registry.AllSettings(c.ctx, t.account, t.name)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListProvisionedConcurrencyConfigsOutput{ProvisionedConcurrencyConfigs: []types.ProvisionedConcurrencyConfigListItem{}}
	after := str(in.Marker)
	for _, qualifier := range slices.Sorted(maps.Keys(all)) {
		if all[qualifier].Provisioned == nil || qualifier <= after {
			continue
		}
		if n := len(out.ProvisionedConcurrencyConfigs); n == pageOf(in.MaxItems) {
			_, last, _ := strings.Cut(*out.ProvisionedConcurrencyConfigs[n-1].FunctionArn, ":function:"+t.name+":")
			out.NextMarker = &last
			break
		}
		out.ProvisionedConcurrencyConfigs = append(out.ProvisionedConcurrencyConfigs, *h.provisionedOf(t, qualifier, all[qualifier].Provisioned))
	}
	return out, nil
}

func (h *Handler) deleteProvisioned(c *call, in *sdk.DeleteProvisionedConcurrencyConfigInput) (smithy.Serializable, error) {
	t, err := h.provisionable(c, in.FunctionName, in.Qualifier, "DeleteProvisionedConcurrencyConfig", noneOfLatest)
	if err != nil {
		return nil, err
	}
	if err := h.Registry.Unprovision(c.ctx, t.account, t.name, t.qualifier); err != nil {
		return nil, err
	}
	return &sdk.DeleteProvisionedConcurrencyConfigOutput{}, nil
}
