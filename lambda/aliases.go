package lambda

import (
	"maps"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

var aliasOperations = operationTable{
	"CreateAlias": serve((*Handler).createAlias),
	"DeleteAlias": serve((*Handler).deleteAlias),
	"GetAlias":    serve((*Handler).getAlias),
	"ListAliases": serve((*Handler).listAliases),
	"UpdateAlias": serve((*Handler).updateAlias),
}

// aliasOf is an alias as the API shows it. The outputs of three operations are
// this structure on the wire.
func aliasOf(a *hearth.Alias) *types.AliasConfiguration {
	out := &types.AliasConfiguration{
		AliasArn:        new(a.ARN()),
		Name:            new(a.Name),
		FunctionVersion: new(a.Version),
		Description:     new(a.Description),
		RevisionId:      new(a.RevisionID),
	}
	if len(a.Weights) > 0 {
		out.RoutingConfig = &types.AliasRoutingConfiguration{AdditionalVersionWeights: maps.Clone(a.Weights)}
	}
	return out
}

// weightsOf are nil if the request leaves the weights as they are.
func weightsOf(r *types.AliasRoutingConfiguration) map[string]float64 {
	if r == nil {
		return nil
	}
	if r.AdditionalVersionWeights == nil {
		return map[string]float64{}
	}
	return r.AdditionalVersionWeights
}

func (h *Handler) createAlias(c *call, in *sdk.CreateAliasInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "CreateAlias")
	if err != nil {
		return nil, err
	}
	a, err := h.Registry.CreateAlias(c.ctx, t.account, t.name, str(in.Name), registry.Alias{
		Version: in.FunctionVersion, Description: in.Description, Weights: weightsOf(in.RoutingConfig),
	})
	if err != nil {
		return nil, err
	}
	return aliasOf(a), nil
}

func (h *Handler) updateAlias(c *call, in *sdk.UpdateAliasInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "UpdateAlias")
	if err != nil {
		return nil, err
	}
	a, err := h.Registry.UpdateAlias(c.ctx, t.account, t.name, str(in.Name), registry.Alias{
		Version: in.FunctionVersion, Description: in.Description, Weights: weightsOf(in.RoutingConfig), RevisionID: str(in.RevisionId),
	})
	if err != nil {
		return nil, err
	}
	return aliasOf(a), nil
}

func (h *Handler) getAlias(c *call, in *sdk.GetAliasInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "GetAlias")
	if err != nil {
		return nil, err
	}
	a, err := h.Registry.Alias(c.ctx, t.account, t.name, str(in.Name))
	if err != nil {
		return nil, err
	}
	return aliasOf(a), nil
}

func (h *Handler) listAliases(c *call, in *sdk.ListAliasesInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "ListAliases")
	if err != nil {
		return nil, err
	}
	as, next, err := h.Registry.Aliases(c.ctx, t.account, t.name, str(in.FunctionVersion), str(in.Marker), pageOf(in.MaxItems))
	if err != nil {
		return nil, err
	}
	out := &sdk.ListAliasesOutput{Aliases: make([]types.AliasConfiguration, len(as)), NextMarker: optional(next)}
	for i, a := range as {
		out.Aliases[i] = *aliasOf(a)
	}
	return out, nil
}

func (h *Handler) deleteAlias(c *call, in *sdk.DeleteAliasInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "DeleteAlias")
	if err != nil {
		return nil, err
	}
	if err := h.Registry.DeleteAlias(c.ctx, t.account, t.name, str(in.Name)); err != nil {
		return nil, err
	}
	return &sdk.DeleteAliasOutput{}, nil
}
