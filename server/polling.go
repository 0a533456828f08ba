package server

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/async"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/kafka"
	"github.com/hearth-faas/hearth/event/mqtt"
	"github.com/hearth-faas/hearth/event/nats"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/poll/folder"
	"github.com/hearth-faas/hearth/event/poll/objects"
	"github.com/hearth-faas/hearth/event/poll/queue"
	"github.com/hearth-faas/hearth/event/postgres"
	"github.com/hearth-faas/hearth/event/rabbitmq"
	"github.com/hearth-faas/hearth/event/redis"
	"github.com/hearth-faas/hearth/event/source"
)

// openSources opens the registered event sources, and the mappings with what
// reads them. Nothing is read before Serve.
func (s *Server) openSources(ctx context.Context) (err error) {
	s.sources, err = source.Open(ctx, source.Config{
		Store: s.records, Clock: s.clock, Region: s.cfg.Region, Secret: s.authority.Key(),
		Used:    func(account hearth.Account, arn string) bool { return s.mappings.Reads(account, arn) },
		Changed: func(account hearth.Account, arn string) { s.mappings.Reopen(account, arn) },
	})
	if err != nil {
		return err
	}
	metrics := poll.NewMetrics()
	s.metrics.MustRegister(metrics)
	openers := s.openers()
	s.poller = poll.New(poll.Config{
		Store: s.records, Clock: s.clock, Openers: openers, Place: s.placeOf,
		Run: caller{s}, Done: func(inv *hearth.Invocation) { s.frontend.Done(inv) },
		Senders: s.destinations(), Park: s.parkRecords, Places: max(s.cfg.Concurrency/2, 1), Pressed: s.load.Pressed,
		Metrics: metrics, Recorder: s.decisions, Log: s.log,
	})
	pollers := map[event.Kind]event.Poller{}
	for kind := range openers {
		pollers[kind] = s.poller
	}
	s.mappings, err = event.Open(ctx, event.Config{
		Store: s.records, Clock: s.clock, Region: s.cfg.Region, Log: s.log, Pollers: pollers,
		Scheme: func(account hearth.Account, arn string) (string, error) {
			of, err := s.sources.ByARN(account, arn)
			if err != nil {
				return "", err
			}
			scheme, _, _ := strings.Cut(of.URL, ":")
			return scheme, nil
		},
		Stopped: s.accounts.Stopped,
		Deleted: s.poller.Forget,
	})
	if err != nil {
		return err
	}
	s.opened("event source mappings", func() error {
		s.poller.Abandon() // whoever may wait for batches has waited
		return s.mappings.Close()
	})
	return nil
}

// openers open the sources that can be read here.
func (s *Server) openers() map[event.Kind]poll.Opener {
	return map[event.Kind]poll.Opener{
		event.SQS:       queue.Opener(lateQueues{s}),
		event.Elsewhere: queue.Elsewhere,
		event.Folder:    folder.Opener(s.records, s.clock, s.cfg.DataDir),
		event.Objects:   objects.Opener(lateQueues{s}),

		event.Kafka: kafka.Opener, event.MSK: kafka.Opener, event.Cluster: kafka.Opener,
		event.MQ: rabbitmq.Opener, event.RabbitMQ: rabbitmq.Opener,
		event.MQTT: mqtt.Opener, event.Redis: redis.Opener, event.NATS: nats.Opener, event.PostgreSQL: postgres.Opener,
	}
}

// destinations are what pollers tell of records that were given up.
func (s *Server) destinations() map[string]poll.Sender {
	return map[string]poll.Sender{"sqs": lateQueues{s}}
}

// caller lets the pollers, which are opened before it, call the frontend.
type caller struct{ s *Server }

func (c caller) Invoke(ctx context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	return c.s.frontend.Invoke(ctx, inv)
}

// parkRecords parks what a mapping's function failed with beside the events that
// were given up, from where it can be taken back.
func (s *Server) parkRecords(ctx context.Context, p poll.Parked) error {
	return s.async.Park(ctx, p.Account, async.Parked{
		Function: p.Function, Qualifier: p.Qualifier, Attempts: p.Attempts,
		Reason: p.Reason + " (of " + p.Mapping + ")", Last: p.Last, Payload: p.Payload,
	})
}

// placeOf tells where a mapping's source is. A registered source is where its
// URL says; a broker or cluster with an ARN of AWS's form is where the source
// with its name is.
func (s *Server) placeOf(_ context.Context, m *event.Mapping) (at poll.Place, err error) {
	at.Lookup = func(uri string) ([]byte, error) { return s.secret(m.Account, uri) }
	name := ""
	switch parts := strings.SplitN(m.Source, ":", 6); {
	case len(parts) != 6:
		return at, nil
	case parts[2] == "hearth":
		if _, name, _ = event.ParseSourceARN(m.Source); name == "" {
			return at, fmt.Errorf("%s names no source", m.Source)
		}
	case parts[2] == "mq": // broker:NAME:ID
		name = nth(strings.Split(parts[5], ":"), 1)
	case parts[2] == "kafka": // cluster/NAME/ID
		name = nth(strings.Split(parts[5], "/"), 1)
	default:
		return at, nil
	}
	of, err := s.sources.Get(m.Account, name)
	if err != nil {
		return at, err
	}
	if at.URL, err = url.Parse(of.URL); err != nil {
		return at, err
	}
	at.Secret, err = s.sources.Secret(of)
	return at, err
}

func nth(parts []string, n int) string {
	if n < len(parts) {
		return parts[n]
	}
	return ""
}

// secret is the secret that a SourceAccessConfiguration's URI means: that of the
// source with its name, whether the URI is the name, or the ARN of a secret with
// it, to which the service adds a dash and six characters.
func (s *Server) secret(account hearth.Account, uri string) ([]byte, error) {
	name := uri[strings.LastIndex(uri, ":")+1:]
	of, err := s.sources.Get(account, name)
	if err != nil && len(name) > 7 && name[len(name)-7] == '-' {
		of, err = s.sources.Get(account, name[:len(name)-7])
	}
	if err != nil {
		return nil, fmt.Errorf("there is no secret %s here; hearth source add %s --secret-file FILE makes one", uri, name)
	}
	secret, err := s.sources.Secret(of)
	if err == nil && secret == nil {
		err = fmt.Errorf("the source %s has no secret", of.Name)
	}
	return secret, err
}
