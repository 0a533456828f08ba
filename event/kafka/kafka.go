// Package kafka reads topics of Kafka, in Lambda's form. Each mapping is a
// member of a consumer group, which Lambda's ConsumerGroupId names and which
// otherwise has the mapping's ID; so the partitions are shared with other
// servers, and the group keeps how far each has been processed.
//
// A mapping names brokers and topics itself (SelfManagedEventSource, Topics),
// or the place's URL does: kafka://host:9092,host:9092?topic=NAME, kafkas://
// with TLS. &mechanism= is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 if there is a
// password; &version=0.9.0 is for brokers that are older than 2.3:
// those before 0.10 cannot say what they are, and none knows a member again after
// a restart.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/access"
	"github.com/hearth-faas/hearth/event/poll"
)

// Opener opens topics of Kafka.
var Opener = poll.OpenerFunc(open)

const (
	// sessionTime is after how long without a heartbeat others get a member's
	// partitions.
	sessionTime = 10 * time.Second
	// fetchBytes and partitionBytes bound what is fetched at a time.
	fetchBytes     = 8 << 20
	partitionBytes = 1 << 20
	// fetchWait is how long a broker waits for something to send. A partition
	// that is read on after a pause waits for the fetch of the others that is
	// under way.
	fetchWait = 250 * time.Millisecond
	// metadataAge is how soon it is asked again where partitions are, after a
	// broker said that it has them no more, or not yet.
	metadataAge = time.Second
)

func open(ctx context.Context, m *event.Mapping, at poll.Place) (poll.Source, error) {
	a, err := access.Of(m, at, access.Want{Port: "9092", Secure: []string{"kafkas"}})
	if err != nil {
		return nil, err
	}
	topics := m.Topics
	if len(topics) == 0 {
		topic := access.Name(m, at, "topic")
		if topic == "" {
			return nil, errors.New("neither the mapping nor the URL names a topic: kafka://host:9092?topic=NAME")
		}
		topics = []string{topic}
	}
	group := m.Group
	if group == "" {
		group = m.ID
	}
	s := newStream(m, group, a.Addrs)
	options, err := s.options(a, at, topics)
	if err != nil {
		return nil, err
	}
	if s.client, err = kgo.NewClient(options...); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	close(s.made)
	if err := s.client.Ping(ctx); err != nil {
		s.client.Close()
		return nil, sentence(err)
	}
	s.begin()
	return s, nil
}

func (s *stream) options(a *access.Access, at poll.Place, topics []string) ([]kgo.Opt, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(a.Addrs...), kgo.ClientID("hearth"), kgo.ConsumeTopics(topics...), kgo.ConsumerGroup(s.group), kgo.DisableAutoCommit(),
		// What was polled of a partition must not be taken for what is polled of it
		// when it is assigned again.
		kgo.BlockRebalanceOnPoll(),
		// Where a new group begins, adjust says. This is where one goes on whose
		// position is not kept any more: at what still is.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.AdjustFetchOffsetsFn(s.adjust),
		kgo.OnPartitionsAssigned(s.assigned), kgo.OnPartitionsRevoked(s.lost), kgo.OnPartitionsLost(s.lost),
		kgo.SessionTimeout(sessionTime), kgo.HeartbeatInterval(sessionTime / 4),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(partitionBytes), kgo.FetchMaxWait(fetchWait),
		kgo.RetryTimeout(sessionTime), kgo.MetadataMaxAge(time.Minute), kgo.MetadataMinAge(metadataAge),
	}
	if a.TLS != nil {
		config := a.TLS.Clone()
		config.ServerName = "" // each broker has its own
		options = append(options, kgo.DialTLSConfig(config))
	}
	if a.User != "" || a.Password != "" {
		switch a.Mechanism {
		case access.SCRAM256:
			options = append(options, kgo.SASL(scram.Auth{User: a.User, Pass: a.Password}.AsSha256Mechanism()))
		case access.SCRAM512:
			options = append(options, kgo.SASL(scram.Auth{User: a.User, Pass: a.Password}.AsSha512Mechanism()))
		default:
			options = append(options, kgo.SASL(plain.Auth{User: a.User, Pass: a.Password}.AsMechanism()))
		}
	}
	if text := access.Parameter(at.URL, "version"); text != "" {
		versions := kversion.FromString("v" + text)
		if versions == nil {
			return nil, fmt.Errorf("version=%s of the URL is no version of Kafka", text)
		}
		return append(options, kgo.MaxVersions(versions)), nil
	}
	// A broker that is older than 2.3 does not know such names.
	options = append(options, kgo.InstanceID(instance(s.group)))
	return options, nil
}

// instance is this server's name in the group: after a restart it has its
// partitions at once, and nobody has to wait until the group has forgotten it.
func instance(group string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return "hearth-" + host + "-" + group
}

// sentence says of Kafka's errors what can be done about them.
func sentence(err error) error {
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("there is no such topic: make it first: %w", err)
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return fmt.Errorf("the broker refuses the user or the password: %w", err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the broker ends the connection: it may want TLS, or refuse the password: %w", err)
	case errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("the user may not read this: %w", err)
	}
	return fmt.Errorf("kafka: %w", err)
}
