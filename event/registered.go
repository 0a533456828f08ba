package event

import (
	"maps"
	"slices"
	"strings"

	"github.com/hearth-faas/hearth"
)

// The kinds of sources that have no ARN in AWS. They are registered, which
// gives them one of Hearth's own; see package source.
const (
	Folder     Kind = "folder"
	Objects    Kind = "object notifications" // of an S3 server
	Redis      Kind = "Redis"
	RabbitMQ   Kind = "RabbitMQ"
	MQTT       Kind = "MQTT"
	NATS       Kind = "NATS"
	PostgreSQL Kind = "PostgreSQL"
	Cluster    Kind = "Kafka cluster" // that is registered
	Elsewhere  Kind = "SQS elsewhere" // a queue of another server of the protocol
)

// schemes tell the kind by the scheme of a registered source's URL.
var schemes = map[string]Kind{
	"file": Folder, "s3": Objects, "redis": Redis, "rediss": Redis, "amqp": RabbitMQ, "amqps": RabbitMQ,
	"mqtt": MQTT, "mqtts": MQTT, "nats": NATS, "postgres": PostgreSQL, "postgresql": PostgreSQL, "kafka": Cluster, "kafkas": Cluster,
	"sqs+http": Elsewhere, "sqs+https": Elsewhere,
}

// KindOfScheme is the kind of sources whose URLs have the scheme; "" if there
// is none.
func KindOfScheme(scheme string) Kind { return schemes[scheme] }

// Schemes are the schemes that registered sources can have, sorted.
func Schemes() []string { return slices.Sorted(maps.Keys(schemes)) }

// registeredTries is how often a record of a registered source is tried again
// unless its mapping says: with the pauses between, for about a minute.
const registeredTries = 9

func registered(t traits) traits {
	t.registered, t.window, t.failures = true, true, true
	t.takes = append(t.takes, "FunctionResponseTypes", "ScalingConfig", "ProvisionedPollerConfig", "MetricsConfig", "Topics", "Queues")
	return t
}

func init() {
	ordered := []string{"ParallelizationFactor", "TumblingWindowInSeconds"}
	for kind, t := range map[Kind]traits{
		Folder: {batch: 10}, Objects: {batch: 10}, Redis: {batch: 100}, RabbitMQ: {batch: 100}, MQTT: {batch: 100},
		NATS: {batch: 100}, PostgreSQL: {batch: 100, takes: ordered}, Cluster: {batch: 100, kafka: true, takes: ordered},
	} {
		kinds[kind] = registered(t)
	}
	// What fails there is the queue's business, as with one of one's own.
	kinds[Elsewhere] = kinds[SQS]
}

// SourceARN is the ARN of a registered source.
func SourceARN(region string, account hearth.Account, name string) string {
	return "arn:aws:hearth:" + region + ":" + string(account) + ":source/" + name
}

// ParseSourceARN tells whose source an ARN names, if it is one of a registered
// source.
func ParseSourceARN(arn string) (account hearth.Account, name string, ok bool) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "hearth" {
		return "", "", false
	}
	name, ok = strings.CutPrefix(parts[5], "source/")
	return hearth.Account(parts[4]), name, ok && name != ""
}

// own refuses a source that is another account's: what happens there is not this
// account's business.
func (m *Mapping) own() error {
	parts := strings.SplitN(m.Source, ":", 6)
	if len(parts) == 6 && parts[4] != "" && hearth.Account(parts[4]) != m.Account {
		return hearth.Errorf(hearth.AccessDenied, "The event source %s is of account %s; only its own mappings may read it.", m.Source, parts[4])
	}
	return nil
}
