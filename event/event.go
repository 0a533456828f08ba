// Package event turns what happens at event sources into invocations: which
// source feeds which function, and in what state that is. What reads a source
// is a Poller; a kind of source without one has its mappings kept, checked and
// shown, and says in each that nothing reads it.
package event

import (
	"slices"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// Mapping feeds a function from an event source. The JSON names are those on
// disk. A *Mapping that was handed out is read-only.
type Mapping struct {
	ID      string         `json:"id"` // a UUID
	Account hearth.Account `json:"account"`
	Region  string         `json:"region"`

	Function  string `json:"function"`            // its name
	Qualifier string `json:"qualifier,omitempty"` // "" is the function as it is

	// What is fixed when a mapping is made.
	Source  string     `json:"source,omitempty"`  // an ARN; "" is the Kafka cluster at Brokers
	Scheme  string     `json:"scheme,omitempty"`  // of the URL of a registered source
	Brokers []string   `json:"brokers,omitempty"` // host:port
	Topics  []string   `json:"topics,omitempty"`
	Queues  []string   `json:"queues,omitempty"`
	From    string     `json:"from,omitempty"`   // "LATEST", "TRIM_HORIZON", "AT_TIMESTAMP" or "" for a queue
	FromAt  *time.Time `json:"fromAt,omitempty"` // of AT_TIMESTAMP
	Group   string     `json:"group,omitempty"`  // a Kafka consumer group
	Mode    string     `json:"mode,omitempty"`   // of a self-managed Kafka: "Stream", "Queue" or ""

	Settings Settings          `json:"settings"`
	Enabled  bool              `json:"enabled"` // what was asked for; State is how far it is
	Tags     map[string]string `json:"tags,omitempty"`

	State    State     `json:"state"`
	Reason   string    `json:"reason"` // why it is in the state
	Result   string    `json:"result"` // of the last processing attempt
	Modified time.Time `json:"modified"`
}

// Settings are what of a mapping can be changed. Which of them a source takes
// and what they are without a word, its Kind decides.
type Settings struct {
	BatchSize     int      `json:"batchSize"`
	WindowSeconds *int     `json:"windowSeconds,omitempty"` // nil is the source's own: none, or 500 ms
	ResponseTypes []string `json:"responseTypes,omitempty"`
	Filters       []string `json:"filters,omitempty"` // patterns, of which one must match
	KMSKey        string   `json:"kmsKey,omitempty"`
	OnFailure     string   `json:"onFailure,omitempty"` // an ARN, or kafka://TOPIC
	Metrics       []string `json:"metrics,omitempty"`
	LogLevel      string   `json:"logLevel,omitempty"`
	Access        []Access `json:"access,omitempty"`

	// Of streams and Kafka.
	Bisect          bool `json:"bisect,omitempty"`
	MaxAgeSeconds   *int `json:"maxAgeSeconds,omitempty"` // Infinite is for ever
	MaxRetries      *int `json:"maxRetries,omitempty"`    // Infinite is without end
	Parallelism     int  `json:"parallelism,omitempty"`   // batches of one shard at once
	TumblingSeconds int  `json:"tumblingSeconds,omitempty"`

	MaxConcurrency *int            `json:"maxConcurrency,omitempty"` // of SQS
	Pollers        *Pollers        `json:"pollers,omitempty"`
	Document       *Document       `json:"document,omitempty"`       // of DocumentDB
	SchemaRegistry *SchemaRegistry `json:"schemaRegistry,omitempty"` // of Kafka
}

// Access is how a source is reached: a secret, a subnet, a virtual host.
type Access struct {
	Type string `json:"type"`
	URI  string `json:"uri,omitempty"`
}

// Pollers are a mapping's own pollers; nil bounds are the source's own.
type Pollers struct {
	Min   *int   `json:"min,omitempty"`
	Max   *int   `json:"max,omitempty"`
	Group string `json:"group,omitempty"`
}

// Document is what of a document database is read.
type Document struct {
	Database   string `json:"database,omitempty"`
	Collection string `json:"collection,omitempty"`
	Full       string `json:"full,omitempty"`
}

// SchemaRegistry tells how Kafka records are validated.
type SchemaRegistry struct {
	URI      string   `json:"uri,omitempty"`
	Format   string   `json:"format,omitempty"`
	Access   []Access `json:"access,omitempty"`
	Validate []string `json:"validate,omitempty"` // "KEY", "VALUE"
}

// ARN is the mapping's ARN.
func (m *Mapping) ARN() string {
	return "arn:aws:lambda:" + m.Region + ":" + string(m.Account) + ":event-source-mapping:" + m.ID
}

// FunctionARN is the ARN of what the mapping invokes.
func (m *Mapping) FunctionARN() string {
	arn := "arn:aws:lambda:" + m.Region + ":" + string(m.Account) + ":function:" + m.Function
	if m.Qualifier != "" {
		arn += ":" + m.Qualifier
	}
	return arn
}

// Kind is the mapping's kind of source.
func (m *Mapping) Kind() Kind {
	switch {
	case m.Source == "":
		return Kafka
	case m.Scheme != "":
		return KindOfScheme(m.Scheme)
	}
	return KindOf(m.Source)
}

// FIFO tells whether the source is a queue that keeps the order.
func (m *Mapping) FIFO() bool { return m.Kind() == SQS && strings.HasSuffix(m.Source, ".fifo") }

// sources are what tells that two mappings read the same.
func (m *Mapping) sources() []string {
	if m.Source != "" {
		return []string{m.Source}
	}
	return m.Brokers
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// Kind is a kind of event source.
type Kind string

// The kinds. Their names are how people speak of them.
const (
	SQS        Kind = "SQS"
	Kinesis    Kind = "Kinesis"
	DynamoDB   Kind = "DynamoDB"
	MSK        Kind = "MSK"
	Kafka      Kind = "Kafka" // a cluster of one's own
	MQ         Kind = "MQ"
	DocumentDB Kind = "DocumentDB"
)

// KindOf is the kind of the source with the ARN; "" if it can be none, or is a
// registered one, whose kind is known from its URL.
func KindOf(arn string) Kind {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[5] == "" {
		return ""
	}
	switch resource := parts[5]; parts[2] {
	case "sqs":
		return SQS
	case "kinesis":
		if strings.HasPrefix(resource, "stream/") {
			return Kinesis
		}
	case "dynamodb":
		if strings.HasPrefix(resource, "table/") && strings.Contains(resource, "/stream/") {
			return DynamoDB
		}
	case "kafka":
		return MSK
	case "mq":
		return MQ
	case "rds", "docdb", "docdb-elastic":
		if strings.HasPrefix(resource, "cluster") {
			return DocumentDB
		}
	}
	return ""
}
