package lambda

import (
	"encoding/base64"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	hearth "github.com/hearth-faas/hearth"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// view says how a function is shown: operations differ in what they tell.
type view struct {
	qualifier string // the ARN ends with it
	update    bool   // LastUpdateStatus is told
	brief     bool   // a list's item: no state
}

// configurationOf is the function's configuration as the API shows it. The
// outputs of five operations are this structure on the wire, whatever Go type the
// SDK gives them.
func configurationOf(f *hearth.Function, v view) *types.FunctionConfiguration {
	arn := f.ARN()
	if v.qualifier != "" {
		arn += ":" + v.qualifier
	}
	out := &types.FunctionConfiguration{
		FunctionName:     new(f.Name),
		FunctionArn:      &arn,
		Version:          new(f.Version),
		Description:      new(f.Description),
		Role:             new(f.Role),
		Runtime:          types.Runtime(f.Runtime),
		MemorySize:       new(int32(f.MemoryMiB)),
		Timeout:          new(int32(f.Timeout / time.Second)),
		EphemeralStorage: &types.EphemeralStorage{Size: new(int32(f.TmpMiB))},
		PackageType:      types.PackageType(f.PackageType),
		CodeSize:         f.Package.Size,
		CodeSha256:       new(codeHash(f)),
		LastModified:     new(f.LastModified.UTC().Format("2006-01-02T15:04:05.000+0000")),
		RevisionId:       new(f.RevisionID),
		TracingConfig:    &types.TracingConfigResponse{Mode: types.TracingMode(f.TracingMode)},
		SnapStart: &types.SnapStartResponse{
			ApplyOn:            types.SnapStartApplyOn(f.SnapStart),
			OptimizationStatus: types.SnapStartOptimizationStatusOff,
		},
		LoggingConfig: &types.LoggingConfig{
			LogFormat:           types.LogFormat(f.Logging.Format),
			LogGroup:            new(f.LogGroup()),
			ApplicationLogLevel: types.ApplicationLogLevel(f.Logging.ApplicationLevel),
			SystemLogLevel:      types.SystemLogLevel(f.Logging.SystemLevel),
		},
		Handler:   optional(f.Handler),
		KMSKeyArn: optional(f.KMSKeyARN),
		MasterArn: optional(f.MasterARN),

		SigningProfileVersionArn: optional(f.SigningProfileVersionARN),
		SigningJobArn:            optional(f.SigningJobARN),
	}
	if f.Shared != nil {
		out.CodeSha256 = nil
	}
	out.ImageConfigResponse = imageConfigOf(f.Image)
	for _, a := range f.Architectures {
		out.Architectures = append(out.Architectures, types.Architecture(a))
	}
	if len(f.Env) > 0 {
		out.Environment = &types.EnvironmentResponse{Variables: maps.Clone(f.Env)}
	}
	if f.DeadLetterTarget != "" {
		out.DeadLetterConfig = &types.DeadLetterConfig{TargetArn: new(f.DeadLetterTarget)}
	}
	if len(f.VPC.SubnetIDs)+len(f.VPC.SecurityGroupIDs) > 0 {
		out.VpcConfig = &types.VpcConfigResponse{
			SubnetIds:               slices.Clone(f.VPC.SubnetIDs),
			SecurityGroupIds:        slices.Clone(f.VPC.SecurityGroupIDs),
			Ipv6AllowedForDualStack: new(f.VPC.IPv6Allowed),
			VpcId:                   new(""),
		}
	}
	out.CapacityProviderConfig = placementOf(f.CapacityProvider)
	if f.TenantIsolation != "" {
		out.TenancyConfig = &types.TenancyConfig{TenantIsolationMode: types.TenantIsolationMode(f.TenantIsolation)}
	}
	for _, l := range f.Layers {
		out.Layers = append(out.Layers, types.Layer{Arn: new(l.ARN), CodeSize: l.Package.Size})
	}
	for _, s := range f.FileSystems {
		out.FileSystemConfigs = append(out.FileSystemConfigs, types.FileSystemConfig{Arn: new(s.ARN), LocalMountPath: new(s.LocalMountPath)})
	}
	if f.Durable != nil {
		out.DurableConfig = durableConfigOf(f.Durable)
	}
	if v.brief {
		return out
	}
	out.State = types.State(f.State)
	out.StateReason = optional(f.StateReason)
	out.StateReasonCode = types.StateReasonCode(f.StateReasonCode)
	if f.RuntimeVersionARN != "" {
		out.RuntimeVersionConfig = &types.RuntimeVersionConfig{RuntimeVersionArn: new(f.RuntimeVersionARN)}
	}
	if v.update {
		out.LastUpdateStatus = types.LastUpdateStatus(f.UpdateStatus)
		out.LastUpdateStatusReason = optional(f.UpdateReason)
		out.LastUpdateStatusReasonCode = types.LastUpdateStatusReasonCode(f.UpdateReasonCode)
	}
	return out
}

// listed shows functions as the items of a list.
func listed(fs []*hearth.Function, qualified bool) []types.FunctionConfiguration {
	out := make([]types.FunctionConfiguration, len(fs))
	for i, f := range fs {
		v := view{brief: true}
		if qualified {
			v.qualifier = f.Version
		}
		out[i] = *configurationOf(f, v)
	}
	return out
}

// codeHash is the hash of f's code as the API spells it: an image's is not in
// base64.
func codeHash(f *hearth.Function) string {
	if f.Image != nil {
		return f.Package.SHA256
	}
	return codeSHA256(f.Package.SHA256)
}

// codeSHA256 is a package's hash as the API spells it: base64.
func codeSHA256(hexadecimal string) string {
	b, err := hex.DecodeString(hexadecimal)
	if err != nil {
		return hexadecimal
	}
	return base64.StdEncoding.EncodeToString(b)
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
