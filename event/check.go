package event

import (
	"slices"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/event/pattern"
)

// traits are what a kind of source has and takes.
type traits struct {
	stream   bool // is read by shards, from a position on, which must be given
	kafka    bool // has topics, read by consumer groups
	batch    int  // records in a batch unless told otherwise
	window   bool // waits for no batch to fill up unless told to (others wait 500 ms)
	failures bool // takes what has to do with failed records
	takes    []string
	// registered sources may be told where reading begins, and begin now if not;
	// and what fails there is not tried for ever.
	registered bool
}

var kinds = map[Kind]traits{
	SQS:        {batch: 10, window: true, takes: []string{"FunctionResponseTypes", "ScalingConfig", "ProvisionedPollerConfig", "MetricsConfig"}},
	Kinesis:    {stream: true, batch: 100, window: true, failures: true, takes: []string{"FunctionResponseTypes", "ParallelizationFactor", "TumblingWindowInSeconds", "MetricsConfig"}},
	DynamoDB:   {stream: true, batch: 100, window: true, failures: true, takes: []string{"FunctionResponseTypes", "ParallelizationFactor", "TumblingWindowInSeconds", "MetricsConfig"}},
	MSK:        {kafka: true, batch: 100, failures: true, takes: []string{"FunctionResponseTypes", "ProvisionedPollerConfig", "MetricsConfig", "LoggingConfig", "Topics", "SourceAccessConfigurations", "SchemaRegistryConfig"}},
	Kafka:      {kafka: true, batch: 100, failures: true, takes: []string{"FunctionResponseTypes", "ProvisionedPollerConfig", "MetricsConfig", "LoggingConfig", "Topics", "SourceAccessConfigurations", "SchemaRegistryConfig"}},
	MQ:         {batch: 100, takes: []string{"Queues", "SourceAccessConfigurations"}},
	DocumentDB: {batch: 100, takes: []string{"DocumentDBEventSourceConfig", "SourceAccessConfigurations"}},
}

// positioned tells whether reading begins at a position that can be chosen.
func (k Kind) positioned() bool {
	t := kinds[k]
	return t.stream || t.kafka || k == DocumentDB || k == NATS || k == PostgreSQL || k == Redis
}

// byUser is how the service says that a state is what the user asked for.
func (k Kind) byUser() string {
	if kinds[k].stream {
		return "User action"
	}
	return "USER_INITIATED"
}

// idle is the result of a source that nothing was read from.
func (k Kind) idle() string {
	if kinds[k].stream {
		return "No records processed"
	}
	return ""
}

// Infinite is an age or a number of retries without end.
const Infinite = -1

// complete gives what was not set its default.
func (m *Mapping) complete() {
	k := m.Kind()
	t := kinds[k]
	s := &m.Settings
	if s.BatchSize == 0 {
		s.BatchSize = t.batch
	}
	if s.WindowSeconds == nil && t.window {
		s.WindowSeconds = new(0)
	}
	if t.failures && s.MaxAgeSeconds == nil {
		s.MaxAgeSeconds = new(Infinite)
	}
	if t.registered && s.MaxRetries == nil {
		s.MaxRetries = new(registeredTries)
	}
	if t.failures && s.MaxRetries == nil {
		s.MaxRetries = new(Infinite)
	}
	if t.stream && s.Parallelism == 0 {
		s.Parallelism = 1
	}
	if m.From == "" && (t.kafka && m.Mode != "Queue" || k == DocumentDB) {
		m.From = "TRIM_HORIZON"
	}
	if t.kafka && m.Group == "" {
		m.Group = m.ID
	}
	if s.Document != nil && s.Document.Full == "" {
		s.Document = new(*s.Document)
		s.Document.Full = "Default"
	}
}

func invalid(format string, args ...any) error {
	return hearth.Errorf(hearth.InvalidParameter, format, args...)
}

func unsupported(what string) error {
	return invalid("Unsupported %s parameter for given event source mapping type.", what)
}

// check tells whether m's source takes what it is told.
func (m *Mapping) check(now time.Time) error {
	k := m.Kind()
	if k == "" || k == Kafka && len(m.Brokers) == 0 {
		return invalid("Unrecognized event source.")
	}
	if err := m.own(); err != nil {
		return err
	}
	for _, check := range []func(Kind, traits, time.Time) error{m.checkTaken, m.checkPosition, m.checkSource, m.checkBatch, m.checkFailures} {
		if err := check(k, kinds[k], now); err != nil {
			return err
		}
	}
	for _, text := range m.Settings.Filters {
		if _, err := pattern.Compile(text); err != nil {
			return invalid("Invalid filter pattern definition.")
		}
	}
	if len(m.Settings.Filters) > maxFilters {
		return invalid("Filter criteria must have at most %d filters.", maxFilters)
	}
	return nil
}

// maxFilters is the service's limit after it was raised.
const maxFilters = 10

// checkTaken refuses what a kind of source has no use for.
func (m *Mapping) checkTaken(k Kind, t traits, _ time.Time) error {
	s := &m.Settings
	given := []struct {
		name string
		set  bool
	}{
		{"Topics", len(m.Topics) > 0},
		{"Queues", len(m.Queues) > 0},
		{"FunctionResponseTypes", len(s.ResponseTypes) > 0},
		{"ScalingConfig", s.MaxConcurrency != nil},
		{"ProvisionedPollerConfig", s.Pollers != nil},
		{"MetricsConfig", len(s.Metrics) > 0},
		{"LoggingConfig", s.LogLevel != ""},
		{"SourceAccessConfigurations", len(s.Access) > 0},
		{"SchemaRegistryConfig", s.SchemaRegistry != nil},
		{"DocumentDBEventSourceConfig", s.Document != nil},
		{"TumblingWindowInSeconds", s.TumblingSeconds > 0},
		{"ParallelizationFactor", s.Parallelism > 0},
	}
	for _, g := range given {
		if g.set && !slices.Contains(t.takes, g.name) {
			return unsupported(g.name)
		}
	}
	switch {
	case !t.failures && s.OnFailure != "":
		return unsupported("DestinationConfig")
	case !t.failures && s.MaxAgeSeconds != nil:
		return unsupported("MaximumRecordAgeInSeconds")
	case !t.failures && s.MaxRetries != nil:
		return unsupported("MaximumRetryAttempts")
	case !t.failures && s.Bisect:
		return unsupported("BisectBatchOnFunctionError")
	case !t.kafka && m.Group != "":
		return unsupported("ConsumerGroupId")
	}
	for _, metric := range s.Metrics {
		if metric != "EventCount" && !t.kafka {
			return unsupported("MetricsConfig")
		}
	}
	return nil
}

func (m *Mapping) checkPosition(k Kind, t traits, now time.Time) error {
	switch {
	case t.stream && m.From == "":
		return invalid("1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null.")
	case !k.positioned() && m.From != "":
		return invalid("StartingPosition is not valid for %s event sources.", k)
	case m.Mode == "Queue" && m.From != "":
		return invalid("StartingPosition is not valid when ConsumptionMode is Queue.")
	case k == DynamoDB && m.From == "AT_TIMESTAMP":
		return invalid("Unsupported starting position for arn type: %s", m.Source)
	case m.FromAt != nil && m.From != "AT_TIMESTAMP":
		return invalid("Timestamp only valid with StartingPosition AT_TIMESTAMP")
	case m.FromAt == nil && m.From == "AT_TIMESTAMP":
		return invalid("StartingPositionTimestamp is required with StartingPosition AT_TIMESTAMP.")
	case m.FromAt != nil && m.FromAt.After(now):
		return invalid("StartingPositionTimestamp must not be in the future.")
	}
	return nil
}

func (m *Mapping) checkSource(k Kind, t traits, _ time.Time) error {
	s := &m.Settings
	switch {
	case t.kafka && len(m.Topics) != 1:
		return invalid("Required 'topics' parameter is missing.")
	case k == MQ && len(m.Queues) != 1:
		return invalid("Required 'queues' parameter is missing.")
	case (k == MQ || k == DocumentDB || k == Kafka) && len(s.Access) == 0:
		return invalid("Required 'sourceAccessConfigurations' parameter is missing.")
	case k == DocumentDB && (s.Document == nil || s.Document.Database == ""):
		return invalid("Required 'documentDBEventSourceConfig.databaseName' parameter is missing.")
	}
	for _, a := range s.Access {
		// These need nothing but the function's role.
		if a.URI == "" && !strings.HasPrefix(a.Type, "IAM_") {
			return invalid("SourceAccessConfiguration of type %s requires a URI.", a.Type)
		}
	}
	return nil
}

func (m *Mapping) checkBatch(k Kind, t traits, _ time.Time) error {
	s := &m.Settings
	window := 0
	if s.WindowSeconds != nil {
		window = *s.WindowSeconds
	}
	switch {
	case m.FIFO() && s.BatchSize > 10:
		return invalid("BatchSize %d must be less than or equal to 10 for FIFO queues.", s.BatchSize)
	case m.FIFO() && window > 0:
		return invalid("Batching window is not supported for FIFO queues")
	case k == SQS && s.BatchSize > 10 && window == 0:
		return invalid("Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10")
	case m.Mode == "Queue" && s.WindowSeconds != nil:
		return invalid("MaximumBatchingWindowInSeconds is not valid when ConsumptionMode is Queue.")
	case s.Pollers != nil && s.MaxConcurrency != nil:
		return invalid("ScalingConfig and ProvisionedPollerConfig cannot be used together.")
	}
	if p := s.Pollers; p != nil {
		low, high := 1, 200
		if k == SQS {
			low = 2
			if p.Group != "" {
				return unsupported("PollerGroupName")
			}
		}
		if p.Min != nil && *p.Min < low || p.Max != nil && *p.Max < low {
			return invalid("The number of pollers of %s event sources must be at least %d.", k, low)
		}
		if p.Max != nil {
			high = *p.Max
		}
		if p.Min != nil && *p.Min > high {
			return invalid("MinimumPollers must be less than or equal to MaximumPollers.")
		}
	}
	return nil
}

func (m *Mapping) checkFailures(_ Kind, t traits, _ time.Time) error {
	s := &m.Settings
	if t.failures && *s.MaxAgeSeconds != Infinite && *s.MaxAgeSeconds < 60 {
		return invalid("MaximumRecordAgeInSeconds must be -1 or at least 60.")
	}
	if s.OnFailure == "" {
		return nil
	}
	if topic, ok := strings.CutPrefix(s.OnFailure, "kafka://"); ok {
		if !t.kafka || topic == "" {
			return badDestination(s.OnFailure)
		}
		return nil
	}
	parts := strings.SplitN(s.OnFailure, ":", 6)
	if len(parts) != 6 || !slices.Contains([]string{"sqs", "sns", "s3"}, parts[2]) {
		return badDestination(s.OnFailure)
	}
	return nil
}

func badDestination(arn string) error {
	return invalid("The provided destination config DestinationConfig(onSuccess=null, onFailure=OnFailure(destination=%s)) is invalid.", arn)
}
