package kafka_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/kafka"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/sourcetest"
	"github.com/hearth-faas/hearth/internal/brokers"
)

func TestMain(m *testing.M) { os.Exit(brokers.Main(m)) }

var topics atomic.Int64

// cluster is a Kafka, real or not.
type cluster struct {
	addrs   []string
	query   string
	options []kgo.Opt
}

func (c cluster) client(t *testing.T, more ...kgo.Opt) *kgo.Client {
	t.Helper()
	options := append(append([]kgo.Opt{kgo.SeedBrokers(c.addrs...), kgo.RecordPartitioner(kgo.RoundRobinPartitioner())}, c.options...), more...)
	client, err := kgo.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// topic makes a topic of two partitions.
func (c cluster) topic(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("orders%d", topics.Add(1))
	if len(c.options) > 0 { // 0.9 makes what is asked for, and cannot be told to
		req := kmsg.NewPtrMetadataRequest()
		asked := kmsg.NewMetadataRequestTopic()
		asked.Topic = &name
		req.Topics = append(req.Topics, asked)
		for client := c.client(t); ; {
			answer, err := req.RequestWith(t.Context(), client)
			if err != nil {
				t.Fatal(err)
			}
			if answer.Topics[0].ErrorCode == 0 && len(answer.Topics[0].Partitions) == 2 && answer.Topics[0].Partitions[0].Leader >= 0 && answer.Topics[0].Partitions[1].Leader >= 0 {
				return name
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if _, err := kadm.NewClient(c.client(t)).CreateTopic(t.Context(), 2, 1, nil, name); err != nil {
		t.Fatal(err)
	}
	return name
}

func (c cluster) mapping(topic string) (*event.Mapping, poll.Place) {
	m := &event.Mapping{ID: "mapping-" + topic, Function: "f", Brokers: c.addrs, Topics: []string{topic}, Group: "group-" + topic, Region: "us-east-1",
		From: "TRIM_HORIZON", Settings: event.Settings{BatchSize: 10, WindowSeconds: new(0)}}
	return m, poll.Place{URL: &url.URL{Scheme: "kafka", RawQuery: c.query}}
}

func (c cluster) source(b sourcetest.Broker) sourcetest.Source {
	return sourcetest.Source{
		Opener: kafka.Opener, Broker: b, Stream: true,
		New: func(t *testing.T) (*event.Mapping, poll.Place) { return c.mapping(c.topic(t)) },
		Publish: func(t *testing.T, m *event.Mapping, ids []string) {
			var records []*kgo.Record
			for _, id := range ids {
				records = append(records, &kgo.Record{Topic: m.Topics[0], Key: []byte(id), Value: sourcetest.Body(id)})
			}
			if err := c.client(t).ProduceSync(t.Context(), records...).FirstErr(); err != nil {
				t.Fatal(err)
			}
		},
		IDs: func(t *testing.T, payload []byte) (ids []string) {
			for _, records := range sourcetest.Decode[events.KafkaEvent](t, payload).Records {
				for _, r := range records {
					value, err := base64.StdEncoding.DecodeString(r.Value)
					if err != nil {
						t.Errorf("value: %v", err)
					}
					ids = append(ids, sourcetest.ID(t, value))
				}
			}
			return ids
		},
		Left: func(t *testing.T, m *event.Mapping) (n int) {
			for tp, end := range c.ends(t, m.Topics[0]) {
				n += int(end - c.position(t, m.Group, m.Topics[0], tp))
			}
			return n
		},
	}
}

// ends are the offsets at which the topic's partitions end.
func (c cluster) ends(t *testing.T, topic string) map[int32]int64 {
	t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	of := kmsg.NewListOffsetsRequestTopic()
	of.Topic = topic
	for n := range int32(2) {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp, p.MaxNumOffsets = n, -1, 1
		of.Partitions = append(of.Partitions, p)
	}
	req.Topics = append(req.Topics, of)
	answer, err := req.RequestWith(t.Context(), c.client(t))
	if err != nil {
		t.Fatal(err)
	}
	ends := map[int32]int64{}
	for _, p := range answer.Topics[0].Partitions {
		ends[p.Partition] = p.Offset
		if len(p.OldStyleOffsets) > 0 {
			ends[p.Partition] = p.OldStyleOffsets[0]
		}
	}
	return ends
}

// position is the group's; 0 is none.
func (c cluster) position(t *testing.T, group, topic string, partition int32) int64 {
	t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group
	of := kmsg.NewOffsetFetchRequestTopic()
	of.Topic, of.Partitions = topic, []int32{partition}
	req.Topics = append(req.Topics, of)
	answer, err := req.RequestWith(t.Context(), c.client(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Groups) > 0 {
		return max(answer.Groups[0].Topics[0].Partitions[0].Offset, 0)
	}
	return max(answer.Topics[0].Partitions[0].Offset, 0)
}

func fake(t *testing.T, options ...kfake.Opt) cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return cluster{addrs: c.ListenAddrs()}
}

func TestTopicOfApacheKafka(t *testing.T) {
	b := brokers.Shared(t, brokers.Kafka)
	sourcetest.Run(t, cluster{[]string{b.Addr}, "version=0.9.0", []kgo.Opt{kgo.MaxVersions(kversion.V0_9_0())}}.source(b))
}

func TestTopicOfANewProtocol(t *testing.T) { sourcetest.Run(t, fake(t).source(nil)) }

func produce(t *testing.T, c cluster, records ...*kgo.Record) {
	t.Helper()
	if err := c.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner())).ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// first opens the source and reads the first record of its first partition.
func first(t *testing.T, m *event.Mapping, at poll.Place) (poll.Stream, *poll.Record) {
	t.Helper()
	s := sourcetest.Opened[poll.Stream](t, kafka.Opener, m, at)
	r := reader(t, s, m.Topics[0]+"-0", "")
	records, err := r.Read(t.Context(), 1, time.Minute)
	if err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	return s, records[0]
}

func reader(t *testing.T, s poll.Stream, shard, after string) poll.Reader {
	t.Helper()
	for {
		shards, err := s.Shards(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, there := range shards {
			if there.ID == shard {
				r, err := s.Open(t.Context(), shard, after)
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
		}
		<-s.(poll.Resharder).Resharded()
	}
}

func TestEventIsLambdas(t *testing.T) {
	c := fake(t)
	m, at := c.mapping(c.topic(t))
	produce(t, c, &kgo.Record{Topic: m.Topics[0], Key: []byte("k"), Value: []byte(`{"n":1}`), Timestamp: time.UnixMilli(1595035749700),
		Headers: []kgo.RecordHeader{{Key: "headerKey", Value: []byte{118, 220, 0, 127, 128}}}}, &kgo.Record{Topic: m.Topics[0]})
	s, rec := first(t, m, at)
	payload, err := s.Event([]*poll.Record{rec})
	if err != nil {
		t.Fatal(err)
	}
	e := sourcetest.Decode[events.KafkaEvent](t, payload)
	got := e.Records[m.Topics[0]+"-0"][0]
	if e.EventSource != "SelfManagedKafka" || e.EventSourceARN != "" || e.BootstrapServers != c.addrs[0] || got.Topic != m.Topics[0] || got.Offset != 0 ||
		got.Timestamp.UnixMilli() != 1595035749700 || got.TimestampType != "CREATE_TIME" || got.Key != "aw==" || got.Value != "eyJuIjoxfQ==" {
		t.Errorf("%s", payload)
	}
	if !strings.Contains(string(payload), `"headers":[{"headerKey":[118,-36,0,127,-128]}]`) {
		t.Errorf("%s", payload)
	}
	if view := string(s.View(rec)); !strings.Contains(view, `"value":{"n":1}`) || !strings.Contains(view, `"key":"k"`) {
		t.Errorf("filters see %s", view)
	}
	item := fmt.Sprintf(`{"partition":"%s-0","offset":0}`, m.Topics[0])
	if id := s.(poll.Identifier).Identify(json.RawMessage(item)); id != rec.ID {
		t.Errorf("%s is %q, want %q", item, id, rec.ID)
	}
}

func TestReadingBeginsWhereTheMappingSays(t *testing.T) {
	c := fake(t)
	for from, want := range map[string]string{"TRIM_HORIZON": "old", "AT_TIMESTAMP": "middle", "LATEST": "new"} {
		t.Run(from, func(t *testing.T) {
			m, at := c.mapping(c.topic(t))
			m.From, m.FromAt = from, new(time.UnixMilli(2000))
			add := func(id string, ms int64) {
				produce(t, c, &kgo.Record{Topic: m.Topics[0], Value: sourcetest.Body(id), Timestamp: time.UnixMilli(ms)})
			}
			add("old", 1000)
			add("middle", 2000)
			s := sourcetest.Opened[poll.Stream](t, kafka.Opener, m, at)
			r := reader(t, s, m.Topics[0]+"-0", "")
			add("new", 3000)
			records, err := r.Read(t.Context(), 1, time.Minute)
			if err != nil || len(records) != 1 || !strings.Contains(string(s.View(records[0])), want) {
				t.Fatal(records, err)
			}
		})
	}
}

func TestWhatIsNewIsCountedFromTheFirstOpeningOn(t *testing.T) {
	c := fake(t)
	m, at := c.mapping(c.topic(t))
	m.From = "LATEST"
	src, err := kafka.Opener.Open(t.Context(), m, at)
	if err != nil {
		t.Fatal(err)
	}
	reader(t, src.(poll.Stream), m.Topics[0]+"-0", "")
	if err := src.Close(); err != nil { // before there was anything
		t.Fatal(err)
	}
	produce(t, c, &kgo.Record{Topic: m.Topics[0], Value: sourcetest.Body("while nobody read")})
	s, rec := first(t, m, at)
	if !strings.Contains(string(s.View(rec)), "while nobody read") {
		t.Errorf("%s", s.View(rec))
	}
}

func TestPositionKeptHereServesWhenTheGroupHasForgottenItsOwn(t *testing.T) {
	c := fake(t)
	m, at := c.mapping(c.topic(t))
	for _, id := range []string{"a", "b", "c"} {
		produce(t, c, &kgo.Record{Topic: m.Topics[0], Value: sourcetest.Body(id)})
	}
	s := sourcetest.Opened[poll.Stream](t, kafka.Opener, m, at)
	records, err := reader(t, s, m.Topics[0]+"-0", "1").Read(t.Context(), 10, time.Minute)
	if err != nil || records[0].Position != "2" {
		t.Fatal(records, err)
	}
}

func TestPartitionsAreSharedWithOtherMembersOfTheGroup(t *testing.T) {
	c := fake(t)
	m, at := c.mapping(c.topic(t))
	s := sourcetest.Opened[poll.Stream](t, kafka.Opener, m, at)
	reader(t, s, m.Topics[0]+"-0", "")
	other := c.client(t, kgo.ConsumerGroup(m.Group), kgo.ConsumeTopics(m.Topics[0]))
	for {
		if len(other.CommittedOffsets()) > 0 {
			break
		}
		shards, err := s.Shards(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(shards) == 1 {
			break
		}
		<-s.(poll.Resharder).Resharded()
	}
	other.LeaveGroup()
	for {
		shards, err := s.Shards(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(shards) == 2 {
			break
		}
		<-s.(poll.Resharder).Resharded()
	}
}

func TestPasswordIsShownByTheMechanismThatTheMappingNames(t *testing.T) {
	for mechanism, access := range map[string]string{"PLAIN": "BASIC_AUTH", "SCRAM-SHA-256": "SASL_SCRAM_256_AUTH", "SCRAM-SHA-512": "SASL_SCRAM_512_AUTH"} {
		t.Run(mechanism, func(t *testing.T) {
			c := fake(t, kfake.EnableSASL(), kfake.Superuser(mechanism, "ada", "lovelace"))
			secrets := map[string]string{"right": `{"username":"ada","password":"lovelace"}`, "wrong": `{"username":"ada","password":"x"}`}
			at := poll.Place{Lookup: func(uri string) ([]byte, error) { return []byte(secrets[uri]), nil }}
			m, _ := c.mapping("any")
			m.Settings.Access = []event.Access{{Type: access, URI: "right"}}
			sourcetest.Opened[poll.Stream](t, kafka.Opener, m, at)
			m.Settings.Access[0].URI = "wrong"
			if _, err := kafka.Opener.Open(t.Context(), m, at); err == nil || !strings.Contains(err.Error(), "refuse the password") {
				t.Error(err)
			}
		})
	}
}
