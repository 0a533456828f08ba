package lambda

import (
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// CreateFunction sets the same configuration as UpdateFunctionConfiguration,
// so both are read into the registry's UpdateConfiguration, in which nil is
// what the request did not set.

func settingsOfCreate(in *sdk.CreateFunctionInput) registry.UpdateConfiguration {
	return settingsOfUpdate(&sdk.UpdateFunctionConfigurationInput{
		DeadLetterConfig:  in.DeadLetterConfig,
		Description:       in.Description,
		DurableConfig:     in.DurableConfig,
		Environment:       in.Environment,
		EphemeralStorage:  in.EphemeralStorage,
		FileSystemConfigs: in.FileSystemConfigs,
		Handler:           in.Handler,
		ImageConfig:       in.ImageConfig,
		KMSKeyArn:         in.KMSKeyArn,
		Layers:            in.Layers,
		LoggingConfig:     in.LoggingConfig,
		MemorySize:        in.MemorySize,
		Role:              in.Role,
		Runtime:           in.Runtime,
		SnapStart:         in.SnapStart,
		Timeout:           in.Timeout,
		TracingConfig:     in.TracingConfig,
		VpcConfig:         in.VpcConfig,
	})
}

func settingsOfUpdate(in *sdk.UpdateFunctionConfigurationInput) registry.UpdateConfiguration {
	s := registry.UpdateConfiguration{
		Runtime:     optional(string(in.Runtime)),
		Handler:     in.Handler,
		Role:        in.Role,
		Description: in.Description,
		KMSKeyARN:   in.KMSKeyArn,
		RevisionID:  str(in.RevisionId),
	}
	if in.MemorySize != nil {
		s.MemoryMiB = new(int(*in.MemorySize))
	}
	if in.Timeout != nil {
		s.Timeout = new(time.Duration(*in.Timeout) * time.Second)
	}
	if in.EphemeralStorage != nil {
		s.TmpMiB = new(int(*in.EphemeralStorage.Size))
	}
	if in.Environment != nil {
		if s.Env = in.Environment.Variables; s.Env == nil {
			s.Env = map[string]string{}
		}
	}
	if in.Layers != nil {
		s.Layers = make([]hearth.Layer, len(in.Layers))
		for i, arn := range in.Layers {
			s.Layers[i].ARN = arn
		}
	}
	if c := in.ImageConfig; c != nil {
		s.Image = &hearth.Image{EntryPoint: c.EntryPoint, Command: c.Command, WorkingDirectory: str(c.WorkingDirectory)}
	}
	if l := in.LoggingConfig; l != nil {
		s.Logging = loggingOf(l)
	}
	if in.TracingConfig != nil && in.TracingConfig.Mode != "" {
		s.TracingMode = new(string(in.TracingConfig.Mode))
	}
	if in.DeadLetterConfig != nil {
		s.DeadLetterTarget = new(str(in.DeadLetterConfig.TargetArn))
	}
	if in.SnapStart != nil && in.SnapStart.ApplyOn != "" {
		s.SnapStart = new(string(in.SnapStart.ApplyOn))
	}
	if v := in.VpcConfig; v != nil {
		s.VPC = &hearth.VPC{SubnetIDs: v.SubnetIds, SecurityGroupIDs: v.SecurityGroupIds, IPv6Allowed: v.Ipv6AllowedForDualStack != nil && *v.Ipv6AllowedForDualStack}
	}
	if in.FileSystemConfigs != nil {
		s.FileSystems = make([]hearth.FileSystem, len(in.FileSystemConfigs))
		for i, f := range in.FileSystemConfigs {
			s.FileSystems[i] = hearth.FileSystem{ARN: str(f.Arn), LocalMountPath: str(f.LocalMountPath)}
		}
	}
	if d := in.DurableConfig; d != nil {
		s.Durable = &registry.Durable{KMSKeyARN: d.KMSKeyArn}
		if d.ExecutionTimeout != nil {
			s.Durable.ExecutionTimeout = new(time.Duration(*d.ExecutionTimeout) * time.Second)
		}
		if d.RetentionPeriodInDays != nil {
			s.Durable.RetentionDays = new(int(*d.RetentionPeriodInDays))
		}
	}
	return s
}

// defaultRetentionDays is how long an ended durable execution is kept unless
// its function says otherwise.
const defaultRetentionDays = 14

// loggingOf fills in what the service does: text has no levels, JSON has INFO
// for both.
func loggingOf(l *types.LoggingConfig) *hearth.Logging {
	out := &hearth.Logging{
		Format:           string(l.LogFormat),
		ApplicationLevel: string(l.ApplicationLogLevel),
		SystemLevel:      string(l.SystemLogLevel),
		Group:            str(l.LogGroup),
	}
	if out.Format == "" {
		out.Format = string(types.LogFormatText)
	}
	if out.Format == string(types.LogFormatJson) {
		if out.ApplicationLevel == "" {
			out.ApplicationLevel = string(types.ApplicationLogLevelInfo)
		}
		if out.SystemLevel == "" {
			out.SystemLevel = string(types.SystemLogLevelInfo)
		}
	}
	return out
}

// apply sets what s sets.
func apply(s registry.UpdateConfiguration, f *hearth.Function) {
	set(&f.Runtime, s.Runtime)
	set(&f.Handler, s.Handler)
	set(&f.Role, s.Role)
	set(&f.Description, s.Description)
	set(&f.KMSKeyARN, s.KMSKeyARN)
	set(&f.MemoryMiB, s.MemoryMiB)
	set(&f.Timeout, s.Timeout)
	set(&f.TmpMiB, s.TmpMiB)
	set(&f.Logging, s.Logging)
	set(&f.TracingMode, s.TracingMode)
	set(&f.DeadLetterTarget, s.DeadLetterTarget)
	set(&f.SnapStart, s.SnapStart)
	set(&f.VPC, s.VPC)
	if s.Durable != nil {
		f.Durable = &hearth.Durable{RetentionDays: defaultRetentionDays}
		s.Durable.Apply(f.Durable)
	}
	f.Env, f.Layers, f.FileSystems = s.Env, s.Layers, s.FileSystems
}

func set[T any](into *T, value *T) {
	if value != nil {
		*into = *value
	}
}
