package event_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/store/sqlite"
)

const (
	account = hearth.Account("111111111111")
	queue   = "arn:aws:sqs:us-east-1:111111111111:q"
	stream  = "arn:aws:kinesis:us-east-1:111111111111:stream/s"
	table   = "arn:aws:dynamodb:us-east-1:111111111111:table/t/stream/1"
	msk     = "arn:aws:kafka:us-east-1:111111111111:cluster/c/1"
	broker  = "arn:aws:mq:us-east-1:111111111111:broker:b:1"
	docdb   = "arn:aws:rds:us-east-1:111111111111:cluster:d"
)

var (
	ctx   = context.Background()
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// world is mappings on a data folder that can be opened again.
type world struct {
	*event.Mappings
	t     *testing.T
	dir   string
	cfg   event.Config
	close func()
}

func newWorld(t *testing.T, pollers map[event.Kind]event.Poller) *world {
	w := &world{t: t, dir: t.TempDir(), cfg: event.Config{Clock: clock.NewFake(start), Region: "us-east-1", Pollers: pollers, Log: slog.New(slog.DiscardHandler)}}
	w.open()
	t.Cleanup(func() { w.close() })
	return w
}

func (w *world) open() {
	records, err := sqlite.Open(ctx, w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	w.cfg.Store = records
	if w.Mappings, err = event.Open(ctx, w.cfg); err != nil {
		w.t.Fatal(err)
	}
	w.close = func() {
		if err := errors.Join(w.Close(), records.Close()); err != nil {
			w.t.Error(err)
		}
	}
}

// until waits for the state; "" is that there is no mapping. There is no event
// to wait on but the state itself.
func (w *world) until(id string, want event.State) *event.Mapping {
	w.t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		m, err := w.Get(account, id)
		if err != nil && want == "" || err == nil && m.State == want {
			return m
		}
	}
	w.t.Fatalf("the mapping does not become %q", want)
	return nil
}

func (w *world) create(m event.Mapping) *event.Mapping {
	w.t.Helper()
	m.Account, m.Function, m.Enabled = account, "f", true
	made, err := w.Create(ctx, m)
	if err != nil {
		w.t.Fatal(err)
	}
	return made
}

func wantError(t *testing.T, err error, kind hearth.Kind, text string) {
	t.Helper()
	if e, ok := errors.AsType[*hearth.Error](err); !ok || e.Kind != kind || !strings.Contains(e.Message, text) {
		t.Errorf("the error is %v, want %s: %s", err, kind, text)
	}
}

// reader is a poller that tells what it was asked, and leaves when it may.
type reader struct {
	entered chan *event.Mapping
	leave   chan struct{}
}

func newReader() *reader {
	return &reader{entered: make(chan *event.Mapping, 10), leave: make(chan struct{}, 10)}
}

func (r *reader) Run(ctx context.Context, m *event.Mapping, report func(string)) {
	report("OK")
	r.entered <- m
	<-ctx.Done()
	<-r.leave
}

func TestAMappingIsInUseUntilItsPollerHasLeft(t *testing.T) {
	r := newReader()
	w := newWorld(t, map[event.Kind]event.Poller{event.SQS: r})
	made := w.create(event.Mapping{Source: queue})
	if made.State != event.Creating {
		t.Errorf("made %s", made.State)
	}
	w.until(made.ID, event.Enabled)
	<-r.entered
	disable := func(m *event.Mapping) error { m.Enabled = false; return nil }
	m, err := w.Update(ctx, account, made.ID, disable)
	if err != nil || m.State != event.Disabling {
		t.Fatal(m, err)
	}
	_, err = w.Update(ctx, account, made.ID, disable)
	wantError(t, err, hearth.InUse, "Cannot update the event source mapping because it is in use.")
	_, err = w.Delete(ctx, account, made.ID)
	wantError(t, err, hearth.InUse, "Cannot delete the event source mapping because it is in use.")
	r.leave <- struct{}{}
	if m := w.until(made.ID, event.Disabled); m.Result != "OK" || m.Reason != "USER_INITIATED" {
		t.Errorf("disabled with %q, %q", m.Result, m.Reason)
	}
	if m, err = w.Delete(ctx, account, made.ID); err != nil || m.State != event.Deleting {
		t.Fatal(m, err)
	}
	w.until(made.ID, "")
}

func TestAnUpdatedMappingIsReadByItsNewSettings(t *testing.T) {
	r := newReader()
	w := newWorld(t, map[event.Kind]event.Poller{event.SQS: r})
	made := w.create(event.Mapping{Source: queue})
	w.until(made.ID, event.Enabled)
	if m := <-r.entered; m.Settings.BatchSize != 10 {
		t.Errorf("read by %d", m.Settings.BatchSize)
	}
	r.leave <- struct{}{}
	if _, err := w.Update(ctx, account, made.ID, func(m *event.Mapping) error { m.Settings.BatchSize = 3; return nil }); err != nil {
		t.Fatal(err)
	}
	if m := <-r.entered; m.Settings.BatchSize != 3 {
		t.Errorf("read by %d", m.Settings.BatchSize)
	}
	r.leave <- struct{}{} // for the end of the test
	w.until(made.ID, event.Enabled)
}

func TestARestartGoesOnWithWhatWasInProgressAndReadsAgain(t *testing.T) {
	r := newReader()
	w := newWorld(t, map[event.Kind]event.Poller{event.SQS: r})
	kept := w.create(event.Mapping{Source: queue, Tags: map[string]string{"a": "b"}})
	w.until(kept.ID, event.Enabled)
	gone := w.create(event.Mapping{Source: queue + "2"})
	w.until(gone.ID, event.Enabled)
	<-r.entered
	<-r.entered
	if _, err := w.Delete(ctx, account, gone.ID); err != nil {
		t.Fatal(err)
	}
	// The poller does not leave before the server stops: the deletion is not
	// carried out.
	closed := make(chan struct{})
	go func() { w.close(); close(closed) }()
	r.leave <- struct{}{}
	r.leave <- struct{}{}
	<-closed
	w.open()
	w.until(gone.ID, "")
	if m := <-r.entered; m.ID != kept.ID || m.Tags["a"] != "b" {
		t.Errorf("after a restart %+v is read", m)
	}
	r.leave <- struct{}{}
}

func TestTagsAreKeptAndBounded(t *testing.T) {
	w := newWorld(t, nil)
	m := w.create(event.Mapping{Source: queue})
	if err := w.Tag(ctx, account, m.ID, map[string]string{"a": "1", "b": "2"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Untag(ctx, account, m.ID, []string{"a", "c"}); err != nil {
		t.Fatal(err)
	}
	if tags, err := w.Tags(ctx, account, m.ID); err != nil || len(tags) != 1 || tags["b"] != "2" {
		t.Errorf("tags %v %v", tags, err)
	}
	many := map[string]string{}
	for i := range 50 {
		many[strings.Repeat("x", i+1)] = ""
	}
	wantError(t, w.Tag(ctx, account, m.ID, many), hearth.InvalidParameter, "Number of tags exceeds resource tag limit.")
	wantError(t, w.Untag(ctx, account, "none", nil), hearth.NotFound, "Event source mapping not found: arn:aws:lambda:us-east-1:111111111111:event-source-mapping:none")
}

func TestASourceTakesWhatItsKindHas(t *testing.T) {
	access := []event.Access{{Type: "BASIC_AUTH", URI: "arn:aws:secretsmanager:us-east-1:111111111111:secret:s"}}
	later := start.Add(time.Hour)
	for _, c := range []struct {
		m    event.Mapping
		want string // "" is taken
	}{
		{event.Mapping{Source: queue}, ""},
		{event.Mapping{Source: queue, From: "LATEST"}, "StartingPosition is not valid for SQS event sources."},
		{event.Mapping{Source: queue, Settings: event.Settings{BatchSize: 11}}, "Maximum batch window in seconds must be greater than 0"},
		{event.Mapping{Source: queue, Settings: event.Settings{BatchSize: 11, WindowSeconds: new(1)}}, ""},
		{event.Mapping{Source: queue + ".fifo", Settings: event.Settings{BatchSize: 11, WindowSeconds: new(1)}}, "less than or equal to 10 for FIFO"},
		{event.Mapping{Source: queue + ".fifo", Settings: event.Settings{WindowSeconds: new(1)}}, "Batching window is not supported for FIFO queues"},
		{event.Mapping{Source: queue, Settings: event.Settings{OnFailure: queue}}, "Unsupported DestinationConfig parameter"},
		{event.Mapping{Source: queue, Settings: event.Settings{Parallelism: 2}}, "Unsupported ParallelizationFactor parameter"},
		{event.Mapping{Source: queue, Settings: event.Settings{Pollers: &event.Pollers{Min: new(1)}}}, "at least 2"},
		{event.Mapping{Source: queue, Settings: event.Settings{Pollers: &event.Pollers{Min: new(5), Max: new(4)}}}, "MinimumPollers must be"},
		{event.Mapping{Source: queue, Settings: event.Settings{Pollers: &event.Pollers{}, MaxConcurrency: new(2)}}, "cannot be used together"},
		{event.Mapping{Source: queue, Settings: event.Settings{Filters: []string{`{"a":1}`}}}, "Invalid filter pattern definition."},
		{event.Mapping{Source: queue, Topics: []string{"t"}}, "Unsupported Topics parameter"},
		{event.Mapping{Source: stream}, "Value null at 'startingPosition'"},
		{event.Mapping{Source: stream, From: "LATEST", FromAt: &start}, "Timestamp only valid with StartingPosition AT_TIMESTAMP"},
		{event.Mapping{Source: stream, From: "AT_TIMESTAMP"}, "StartingPositionTimestamp is required"},
		{event.Mapping{Source: stream, From: "AT_TIMESTAMP", FromAt: &later}, "must not be in the future"},
		{event.Mapping{Source: stream, From: "AT_TIMESTAMP", FromAt: &start}, ""},
		{event.Mapping{Source: stream, From: "LATEST", Settings: event.Settings{MaxAgeSeconds: new(59)}}, "must be -1 or at least 60"},
		{event.Mapping{Source: stream + "2", From: "LATEST", Settings: event.Settings{MaxAgeSeconds: new(60), MaxRetries: new(0), OnFailure: queue, Bisect: true, TumblingSeconds: 30, Parallelism: 10}}, ""},
		{event.Mapping{Source: stream, From: "LATEST", Settings: event.Settings{OnFailure: "arn:aws:lambda:us-east-1:111111111111:function:g"}}, "is invalid."},
		{event.Mapping{Source: stream, From: "LATEST", Settings: event.Settings{Metrics: []string{"KafkaMetrics"}}}, "Unsupported MetricsConfig"},
		{event.Mapping{Source: table, From: "AT_TIMESTAMP", FromAt: &start}, "Unsupported starting position for arn type: " + table},
		{event.Mapping{Source: table, From: "TRIM_HORIZON"}, ""},
		{event.Mapping{Source: msk}, "Required 'topics' parameter is missing."},
		{event.Mapping{Source: msk, Topics: []string{"t"}, Settings: event.Settings{OnFailure: "kafka://dead", Metrics: []string{"KafkaMetrics"}, LogLevel: "WARN"}}, ""},
		{event.Mapping{Brokers: []string{"k:1"}, Topics: []string{"t"}}, "Required 'sourceAccessConfigurations' parameter is missing."},
		{event.Mapping{Brokers: []string{"k:1"}, Topics: []string{"t"}, Settings: event.Settings{Access: access}}, ""},
		{event.Mapping{Brokers: []string{"k:2"}, Topics: []string{"t"}, Settings: event.Settings{Access: []event.Access{{Type: "IAM_AUTH"}}}}, ""},
		{event.Mapping{Brokers: []string{"k:3"}, Topics: []string{"t"}, Settings: event.Settings{Access: []event.Access{{Type: "BASIC_AUTH"}}}}, "requires a URI"},
		{event.Mapping{Brokers: []string{"k:4"}, Topics: []string{"t"}, Mode: "Queue", From: "LATEST", Settings: event.Settings{Access: access}}, "ConsumptionMode is Queue"},
		{event.Mapping{Source: broker, Settings: event.Settings{Access: access}}, "Required 'queues' parameter is missing."},
		{event.Mapping{Source: broker, Queues: []string{"q"}, Settings: event.Settings{Access: access}}, ""},
		{event.Mapping{Source: docdb, Settings: event.Settings{Access: access}}, "databaseName"},
		{event.Mapping{Source: docdb, Settings: event.Settings{Access: access, Document: &event.Document{Database: "d"}}}, ""},
		{event.Mapping{Source: "arn:aws:s3:::b"}, "Unrecognized event source."},
		{event.Mapping{}, "Unrecognized event source."},
	} {
		t.Run("", func(t *testing.T) {
			w := newWorld(t, nil)
			c.m.Account, c.m.Function = account, "f"
			_, err := w.Create(ctx, c.m)
			switch {
			case c.want != "":
				wantError(t, err, hearth.InvalidParameter, c.want)
			case err != nil:
				t.Errorf("%+v: %v", c.m, err)
			}
		})
	}
}
