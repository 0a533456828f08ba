package lambda

import (
	"context"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/event"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

// Mappings keep the event source mappings. Its errors are what the caller is
// told. Safe for concurrent use.
type Mappings interface {
	Create(ctx context.Context, m event.Mapping) (*event.Mapping, error)
	Get(account hearth.Account, id string) (*event.Mapping, error)
	List(account hearth.Account, functionARN, source, after string, max int) (ms []*event.Mapping, more bool)
	Update(ctx context.Context, account hearth.Account, id string, change func(*event.Mapping) error) (*event.Mapping, error)
	Delete(ctx context.Context, account hearth.Account, id string) (*event.Mapping, error)
	TagStore
}

// mappingOperations are those of event source mappings.
var mappingOperations = operationTable{
	"CreateEventSourceMapping": serve((*Handler).createMapping),
	"DeleteEventSourceMapping": serve((*Handler).deleteMapping),
	"GetEventSourceMapping":    serve((*Handler).getMapping),
	"ListEventSourceMappings":  serve((*Handler).listMappings),
	"UpdateEventSourceMapping": serve((*Handler).updateMapping),
}

// mappedFunction finds the function that a mapping is to invoke.
func (h *Handler) mappedFunction(c *call, name *string, action string) (target, error) {
	t, err := h.target(c, name, nil, action)
	if err != nil {
		return t, err
	}
	if _, err := h.Registry.Get(c.ctx, t.account, t.name, t.qualifier); err != nil {
		return t, hearth.Errorf(hearth.InvalidParameter, "Function does not exist")
	}
	return t, nil
}

func (h *Handler) createMapping(c *call, in *sdk.CreateEventSourceMappingInput) (smithy.Serializable, error) {
	m := event.Mapping{Source: str(in.EventSourceArn), Topics: in.Topics, Queues: in.Queues, From: string(in.StartingPosition), FromAt: in.StartingPositionTimestamp, Tags: in.Tags}
	m.Enabled = in.Enabled == nil || *in.Enabled
	if in.SelfManagedEventSource != nil {
		if m.Source != "" {
			return nil, hearth.Errorf(hearth.InvalidParameter, "EventSourceArn and SelfManagedEventSource cannot be used together.")
		}
		m.Brokers = in.SelfManagedEventSource.Endpoints[string(types.EndPointTypeKafkaBootstrapServers)]
	}
	if k := in.AmazonManagedKafkaEventSourceConfig; k != nil {
		m.Group = str(k.ConsumerGroupId)
	}
	if k := in.SelfManagedKafkaEventSourceConfig; k != nil {
		m.Group, m.Mode = str(k.ConsumerGroupId), string(k.ConsumptionMode)
	}
	err := applyMapping(&m, &sdk.UpdateEventSourceMappingInput{
		AmazonManagedKafkaEventSourceConfig: withoutGroup(in.AmazonManagedKafkaEventSourceConfig),
		SelfManagedKafkaEventSourceConfig:   withoutOwn(in.SelfManagedKafkaEventSourceConfig),
		BatchSize:                           in.BatchSize,
		BisectBatchOnFunctionError:          in.BisectBatchOnFunctionError,
		DestinationConfig:                   in.DestinationConfig,
		DocumentDBEventSourceConfig:         in.DocumentDBEventSourceConfig,
		FilterCriteria:                      in.FilterCriteria,
		FunctionResponseTypes:               in.FunctionResponseTypes,
		KMSKeyArn:                           in.KMSKeyArn,
		LoggingConfig:                       in.LoggingConfig,
		MaximumBatchingWindowInSeconds:      in.MaximumBatchingWindowInSeconds,
		MaximumRecordAgeInSeconds:           in.MaximumRecordAgeInSeconds,
		MaximumRetryAttempts:                in.MaximumRetryAttempts,
		MetricsConfig:                       in.MetricsConfig,
		ParallelizationFactor:               in.ParallelizationFactor,
		ProvisionedPollerConfig:             in.ProvisionedPollerConfig,
		ScalingConfig:                       in.ScalingConfig,
		SourceAccessConfigurations:          in.SourceAccessConfigurations,
		TumblingWindowInSeconds:             in.TumblingWindowInSeconds,
	})
	if err != nil {
		return nil, err
	}
	t, err := h.mappedFunction(c, in.FunctionName, "CreateEventSourceMapping")
	if err != nil {
		return nil, err
	}
	m.Account, m.Function, m.Qualifier = t.account, t.name, t.qualifier
	made, err := h.Mappings.Create(c.ctx, m)
	if err != nil {
		return nil, err
	}
	return mappingOf(made), nil
}

// withoutGroup is a Kafka configuration without what is fixed at creation.
func withoutGroup(k *types.AmazonManagedKafkaEventSourceConfig) *types.AmazonManagedKafkaEventSourceConfig {
	if k == nil {
		return nil
	}
	return &types.AmazonManagedKafkaEventSourceConfig{SchemaRegistryConfig: k.SchemaRegistryConfig}
}

func withoutOwn(k *types.SelfManagedKafkaEventSourceConfig) *types.SelfManagedKafkaEventSourceConfig {
	if k == nil {
		return nil
	}
	return &types.SelfManagedKafkaEventSourceConfig{SchemaRegistryConfig: k.SchemaRegistryConfig}
}

func (h *Handler) updateMapping(c *call, in *sdk.UpdateEventSourceMappingInput) (smithy.Serializable, error) {
	var to *target
	if in.FunctionName != nil {
		t, err := h.mappedFunction(c, in.FunctionName, "UpdateEventSourceMapping")
		if err != nil {
			return nil, err
		}
		to = &t
	}
	m, err := h.Mappings.Update(c.ctx, c.account(), str(in.UUID), func(m *event.Mapping) error {
		if to != nil {
			m.Function, m.Qualifier = to.name, to.qualifier
		}
		if in.Enabled != nil {
			m.Enabled = *in.Enabled
		}
		return applyMapping(m, in)
	})
	if err != nil {
		return nil, err
	}
	return mappingOf(m), nil
}

func (h *Handler) getMapping(c *call, in *sdk.GetEventSourceMappingInput) (smithy.Serializable, error) {
	m, err := h.Mappings.Get(c.account(), str(in.UUID))
	if err != nil {
		return nil, err
	}
	return mappingOf(m), nil
}

func (h *Handler) deleteMapping(c *call, in *sdk.DeleteEventSourceMappingInput) (smithy.Serializable, error) {
	m, err := h.Mappings.Delete(c.ctx, c.account(), str(in.UUID))
	if err != nil {
		return nil, err
	}
	return mappingOf(m), nil
}

// mappingPage is how many mappings an answer holds at most.
const mappingPage = 100

func (h *Handler) listMappings(c *call, in *sdk.ListEventSourceMappingsInput) (smithy.Serializable, error) {
	function := ""
	if in.FunctionName != nil {
		t, err := h.target(c, in.FunctionName, nil, "ListEventSourceMappings")
		if err != nil {
			return nil, err
		}
		function = (&event.Mapping{Account: t.account, Region: h.region, Function: t.name, Qualifier: t.qualifier}).FunctionARN()
	}
	after, _, err := afterMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	size := mappingPage
	if in.MaxItems != nil {
		size = min(size, int(*in.MaxItems))
	}
	ms, more := h.Mappings.List(c.account(), function, str(in.EventSourceArn), after, size)
	out := &sdk.ListEventSourceMappingsOutput{EventSourceMappings: make([]types.EventSourceMappingConfiguration, len(ms))}
	for i, m := range ms {
		out.EventSourceMappings[i] = *mappingOf(m)
	}
	if more {
		out.NextMarker = markerAfter(ms[len(ms)-1].ID)
	}
	return out, nil
}

// applyMapping sets in m what a request sets. What is there and empty clears
// what was.
func applyMapping(m *event.Mapping, in *sdk.UpdateEventSourceMappingInput) error {
	s := &m.Settings
	whole(&s.WindowSeconds, in.MaximumBatchingWindowInSeconds)
	whole(&s.MaxAgeSeconds, in.MaximumRecordAgeInSeconds)
	whole(&s.MaxRetries, in.MaximumRetryAttempts)
	set(&s.Bisect, in.BisectBatchOnFunctionError)
	set(&s.KMSKey, in.KMSKeyArn)
	for _, n := range []struct {
		into  *int
		value *int32
	}{{&s.BatchSize, in.BatchSize}, {&s.Parallelism, in.ParallelizationFactor}, {&s.TumblingSeconds, in.TumblingWindowInSeconds}} {
		if n.value != nil {
			*n.into = int(*n.value)
		}
	}
	if d := in.DestinationConfig; d != nil {
		if d.OnSuccess != nil {
			return hearth.Errorf(hearth.InvalidParameter, "Unsupported DestinationConfig parameter for given event source mapping type.")
		}
		if s.OnFailure = ""; d.OnFailure != nil {
			s.OnFailure = str(d.OnFailure.Destination)
		}
	}
	if f := in.FilterCriteria; f != nil {
		s.Filters = nil
		for _, filter := range f.Filters {
			s.Filters = append(s.Filters, str(filter.Pattern))
		}
	}
	if in.FunctionResponseTypes != nil {
		s.ResponseTypes = words(in.FunctionResponseTypes)
	}
	if in.MetricsConfig != nil {
		s.Metrics = words(in.MetricsConfig.Metrics)
	}
	if in.LoggingConfig != nil {
		s.LogLevel = string(in.LoggingConfig.SystemLogLevel)
	}
	if in.ScalingConfig != nil {
		s.MaxConcurrency = nil
		whole(&s.MaxConcurrency, in.ScalingConfig.MaximumConcurrency)
	}
	if p := in.ProvisionedPollerConfig; p != nil {
		s.Pollers = nil
		if *p != (types.ProvisionedPollerConfig{}) {
			s.Pollers = &event.Pollers{Group: str(p.PollerGroupName)}
			whole(&s.Pollers.Min, p.MinimumPollers)
			whole(&s.Pollers.Max, p.MaximumPollers)
		}
	}
	if in.SourceAccessConfigurations != nil {
		s.Access = nil
		for _, a := range in.SourceAccessConfigurations {
			s.Access = append(s.Access, event.Access{Type: string(a.Type), URI: str(a.URI)})
		}
	}
	if d := in.DocumentDBEventSourceConfig; d != nil {
		s.Document = &event.Document{Database: str(d.DatabaseName), Collection: str(d.CollectionName), Full: string(d.FullDocument)}
	}
	return applyKafka(m, in)
}

func applyKafka(m *event.Mapping, in *sdk.UpdateEventSourceMappingInput) error {
	managed, own := in.AmazonManagedKafkaEventSourceConfig, in.SelfManagedKafkaEventSourceConfig
	var registry *types.KafkaSchemaRegistryConfig
	switch kind := m.Kind(); {
	case managed == nil && own == nil:
		return nil
	case managed != nil && kind != event.MSK:
		return hearth.Errorf(hearth.InvalidParameter, "Unsupported AmazonManagedKafkaEventSourceConfig parameter for given event source mapping type.")
	case own != nil && kind != event.Kafka:
		return hearth.Errorf(hearth.InvalidParameter, "Unsupported SelfManagedKafkaEventSourceConfig parameter for given event source mapping type.")
	case managed != nil:
		registry = managed.SchemaRegistryConfig
		if managed.ConsumerGroupId != nil && *managed.ConsumerGroupId != m.Group {
			return fixed("ConsumerGroupId")
		}
	default:
		registry = own.SchemaRegistryConfig
		if own.ConsumerGroupId != nil && *own.ConsumerGroupId != m.Group {
			return fixed("ConsumerGroupId")
		}
		if own.ConsumptionMode != "" && string(own.ConsumptionMode) != m.Mode {
			return fixed("ConsumptionMode")
		}
	}
	m.Settings.SchemaRegistry = nil
	if registry == nil {
		return nil
	}
	r := &event.SchemaRegistry{URI: str(registry.SchemaRegistryURI), Format: string(registry.EventRecordFormat)}
	for _, a := range registry.AccessConfigs {
		r.Access = append(r.Access, event.Access{Type: string(a.Type), URI: str(a.URI)})
	}
	for _, v := range registry.SchemaValidationConfigs {
		r.Validate = append(r.Validate, string(v.Attribute))
	}
	if r.URI != "" {
		m.Settings.SchemaRegistry = r
	}
	return nil
}

func fixed(what string) error {
	return hearth.Errorf(hearth.InvalidParameter, "%s cannot be updated. Please create a new event source mapping.", what)
}

// whole sets into what a request sets.
func whole(into **int, value *int32) {
	if value != nil {
		*into = new(int(*value))
	}
}

// words are an enumeration's values as text; nil if there are none.
func words[S ~string](values []S) (out []string) {
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

func enums[S ~string](values []string) []S {
	out := make([]S, len(values))
	for i, v := range values {
		out[i] = S(v)
	}
	return out
}

func int32Of(n *int) *int32 {
	if n == nil {
		return nil
	}
	return new(int32(*n))
}

// mappingOf is a mapping as the API shows it. The outputs of four operations
// are this structure on the wire.
func mappingOf(m *event.Mapping) *types.EventSourceMappingConfiguration {
	s, kind := &m.Settings, m.Kind()
	out := &types.EventSourceMappingConfiguration{
		UUID: new(m.ID), EventSourceMappingArn: new(m.ARN()), FunctionArn: new(m.FunctionARN()), EventSourceArn: optional(m.Source),
		State: new(string(m.State)), StateTransitionReason: new(m.Reason), LastProcessingResult: optional(m.Result), LastModified: new(m.Modified),
		Topics: m.Topics, Queues: m.Queues, StartingPosition: types.EventSourcePosition(m.From), StartingPositionTimestamp: m.FromAt,
		BatchSize: new(int32(s.BatchSize)), MaximumBatchingWindowInSeconds: int32Of(s.WindowSeconds),
		KMSKeyArn: optional(s.KMSKey), FunctionResponseTypes: enums[types.FunctionResponseType](s.ResponseTypes),
		MaximumRecordAgeInSeconds: int32Of(s.MaxAgeSeconds), MaximumRetryAttempts: int32Of(s.MaxRetries),
	}
	if s.MaxRetries != nil { // of a source that takes what has to do with failures
		out.BisectBatchOnFunctionError = new(s.Bisect)
		out.DestinationConfig = &types.DestinationConfig{OnFailure: &types.OnFailure{Destination: optional(s.OnFailure)}}
	}
	if s.Parallelism > 0 {
		out.ParallelizationFactor, out.TumblingWindowInSeconds = new(int32(s.Parallelism)), new(int32(s.TumblingSeconds))
	}
	if len(s.Filters) > 0 {
		out.FilterCriteria = &types.FilterCriteria{}
		for _, pattern := range s.Filters {
			out.FilterCriteria.Filters = append(out.FilterCriteria.Filters, types.Filter{Pattern: new(pattern)})
		}
	}
	if len(s.Metrics) > 0 {
		out.MetricsConfig = &types.EventSourceMappingMetricsConfig{Metrics: enums[types.EventSourceMappingMetric](s.Metrics)}
	}
	if s.LogLevel != "" {
		out.LoggingConfig = &types.EventSourceMappingLoggingConfig{SystemLogLevel: types.EventSourceMappingSystemLogLevel(s.LogLevel)}
	}
	if s.MaxConcurrency != nil {
		out.ScalingConfig = &types.ScalingConfig{MaximumConcurrency: int32Of(s.MaxConcurrency)}
	}
	if p := s.Pollers; p != nil {
		out.ProvisionedPollerConfig = &types.ProvisionedPollerConfig{MinimumPollers: int32Of(p.Min), MaximumPollers: int32Of(p.Max), PollerGroupName: optional(p.Group)}
	}
	for _, a := range s.Access {
		out.SourceAccessConfigurations = append(out.SourceAccessConfigurations, types.SourceAccessConfiguration{Type: types.SourceAccessType(a.Type), URI: optional(a.URI)})
	}
	if d := s.Document; d != nil {
		out.DocumentDBEventSourceConfig = &types.DocumentDBEventSourceConfig{DatabaseName: optional(d.Database), CollectionName: optional(d.Collection), FullDocument: types.FullDocument(d.Full)}
	}
	switch kind {
	case event.Kafka:
		out.SelfManagedEventSource = &types.SelfManagedEventSource{Endpoints: map[string][]string{string(types.EndPointTypeKafkaBootstrapServers): m.Brokers}}
		out.SelfManagedKafkaEventSourceConfig = &types.SelfManagedKafkaEventSourceConfig{
			ConsumerGroupId: new(m.Group), ConsumptionMode: types.KafkaEventSourceMappingConsumptionMode(m.Mode), SchemaRegistryConfig: registryOf(s.SchemaRegistry),
		}
	case event.MSK:
		out.AmazonManagedKafkaEventSourceConfig = &types.AmazonManagedKafkaEventSourceConfig{ConsumerGroupId: new(m.Group), SchemaRegistryConfig: registryOf(s.SchemaRegistry)}
	}
	return out
}

func registryOf(r *event.SchemaRegistry) *types.KafkaSchemaRegistryConfig {
	if r == nil {
		return nil
	}
	out := &types.KafkaSchemaRegistryConfig{SchemaRegistryURI: optional(r.URI), EventRecordFormat: types.SchemaRegistryEventRecordFormat(r.Format)}
	for _, a := range r.Access {
		out.AccessConfigs = append(out.AccessConfigs, types.KafkaSchemaRegistryAccessConfig{Type: types.KafkaSchemaRegistryAuthType(a.Type), URI: optional(a.URI)})
	}
	for _, v := range r.Validate {
		out.SchemaValidationConfigs = append(out.SchemaValidationConfigs, types.KafkaSchemaValidationConfig{Attribute: types.KafkaSchemaValidationAttribute(v)})
	}
	return out
}
