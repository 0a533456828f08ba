package lambda

import (
	"cmp"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

// manageOperations are those of runtime management, recursion and scaling.
var manageOperations = operationTable{
	"GetFunctionRecursionConfig": serve((*Handler).getRecursion),
	"GetRuntimeManagementConfig": serve((*Handler).getRuntimeManagement),
	"PutFunctionRecursionConfig": serve((*Handler).putRecursion),
	"PutRuntimeManagementConfig": serve((*Handler).putRuntimeManagement),
}

func (h *Handler) getRecursion(c *call, in *sdk.GetFunctionRecursionConfigInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "GetFunctionRecursionConfig")
	if err != nil {
		return nil, err
	}
	s, err := h.Registry.Settings(c.ctx, t.account, t.name, "")
	if err != nil {
		return nil, err
	}
	return &sdk.GetFunctionRecursionConfigOutput{RecursiveLoop: cmp.Or(types.RecursiveLoop(s.Recursion), types.RecursiveLoopTerminate)}, nil
}

func (h *Handler) putRecursion(c *call, in *sdk.PutFunctionRecursionConfigInput) (smithy.Serializable, error) {
	t, err := h.unqualified(c, in.FunctionName, "PutFunctionRecursionConfig")
	if err != nil {
		return nil, err
	}
	_, err = h.Registry.Configure(c.ctx, t.account, t.name, "", func(s *registry.Settings) error {
		s.Recursion = string(in.RecursiveLoop)
		if in.RecursiveLoop == types.RecursiveLoopTerminate {
			s.Recursion = ""
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.PutFunctionRecursionConfigOutput{RecursiveLoop: in.RecursiveLoop}, nil
}

// managed finds the version whose runtime a request is about.
func (h *Handler) managed(c *call, name, qualifier *string, action string) (target, *hearth.Function, error) {
	t, err := h.target(c, name, qualifier, action)
	if err != nil {
		return t, nil, err
	}
	f, err := h.Registry.Get(c.ctx, t.account, t.name, t.qualifier)
	switch {
	case err != nil:
	case f.PackageType == string(types.PackageTypeImage):
		err = hearth.Errorf(hearth.InvalidParameter, "Runtime management configuration is not supported for functions with PackageType Image.")
	case t.qualifier != "" && t.qualifier != f.Version:
		err = hearth.Errorf(hearth.InvalidParameter, "Aliases do not support this operation. Please specify $LATEST or a published version.")
	}
	return t, f, err
}

func (h *Handler) putRuntimeManagement(c *call, in *sdk.PutRuntimeManagementConfigInput) (smithy.Serializable, error) {
	t, f, err := h.managed(c, in.FunctionName, in.Qualifier, "PutRuntimeManagementConfig")
	if err != nil {
		return nil, err
	}
	manual, arn := in.UpdateRuntimeOn == types.UpdateRuntimeOnManual, str(in.RuntimeVersionArn)
	switch {
	case manual && arn == "":
		return nil, hearth.Errorf(hearth.InvalidParameter, "RuntimeVersionArn is required when UpdateRuntimeOn is set to Manual.")
	case !manual && arn != "":
		return nil, hearth.Errorf(hearth.InvalidParameter, "RuntimeVersionArn is only supported when UpdateRuntimeOn is set to Manual.")
	case manual && arn != f.RuntimeVersionARN:
		// Hearth is its runtimes' one build: there is no other to go back to.
		return nil, hearth.Errorf(hearth.InvalidParameter, "Runtime version %s does not exist for the runtime %s.", arn, f.Runtime)
	}
	s, err := h.Registry.Configure(c.ctx, t.account, t.name, t.qualifier, func(s *registry.Settings) error {
		s.RuntimeManagement = &registry.RuntimeManagement{UpdateOn: string(in.UpdateRuntimeOn), VersionARN: arn}
		if in.UpdateRuntimeOn == types.UpdateRuntimeOnAuto {
			s.RuntimeManagement = nil
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	m := runtimeManagementOf(s)
	return &sdk.PutRuntimeManagementConfigOutput{
		FunctionArn: new(managedARN(t, f)), UpdateRuntimeOn: types.UpdateRuntimeOn(m.UpdateOn), RuntimeVersionArn: optional(m.VersionARN),
	}, nil
}

func (h *Handler) getRuntimeManagement(c *call, in *sdk.GetRuntimeManagementConfigInput) (smithy.Serializable, error) {
	t, f, err := h.managed(c, in.FunctionName, in.Qualifier, "GetRuntimeManagementConfig")
	if err != nil {
		return nil, err
	}
	s, err := h.Registry.Settings(c.ctx, t.account, t.name, t.qualifier)
	if err != nil {
		return nil, err
	}
	m := runtimeManagementOf(s)
	return &sdk.GetRuntimeManagementConfigOutput{
		FunctionArn: new(managedARN(t, f)), UpdateRuntimeOn: types.UpdateRuntimeOn(m.UpdateOn), RuntimeVersionArn: optional(m.VersionARN),
	}, nil
}

func runtimeManagementOf(s *registry.Settings) registry.RuntimeManagement {
	if s.RuntimeManagement == nil {
		return registry.RuntimeManagement{UpdateOn: string(types.UpdateRuntimeOnAuto)}
	}
	return *s.RuntimeManagement
}

// managedARN has a qualifier if the request had.
func managedARN(t target, f *hearth.Function) string {
	if t.qualifier == "" {
		return f.ARN()
	}
	return f.QualifiedARN()
}
