package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/awsjson"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/poll/queue"
	"github.com/hearth-faas/hearth/event/sourcetest"
	"github.com/hearth-faas/hearth/sqs"
	"github.com/hearth-faas/hearth/sqs/wire"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// remote is another server of the protocol, at an address that stays when it is
// killed and started again. It implements sourcetest.Broker. Kill leaves it with
// what is on disk.
type remote struct {
	t    testing.TB
	dir  string
	addr string
	// signed hears the Authorization and the security token of each request.
	signed func(authorization, token string)
	// before is called with the operation of each request before it is served.
	before func(operation string)
	// after is called with it when it has been.
	after func(operation string)

	mu      sync.Mutex
	conns   map[net.Conn]bool
	http    *http.Server
	service *sqs.Service
	store   store.Store
	served  chan struct{}
}

func newRemote(t testing.TB) *remote {
	r := &remote{t: t, dir: t.TempDir(), addr: "127.0.0.1:0", signed: func(string, string) {}, before: func(string) {}, after: func(string) {}}
	r.Start(t)
	t.Cleanup(r.Kill)
	return r
}

// Start implements sourcetest.Broker.
func (r *remote) Start(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	r.addr = listener.Addr().String()
	if r.store, err = sqlite.Open(context.Background(), r.dir); err != nil {
		t.Fatal(err)
	}
	if r.service, err = sqs.Open(context.Background(), sqs.Config{Store: r.store, Clock: clock.System(), Region: "eu-west-1"}); err != nil {
		t.Fatal(err)
	}
	api := wire.New(r.service)
	r.mu.Lock() // a connection to the server that was killed may still be ending
	r.conns = map[net.Conn]bool{}
	r.mu.Unlock()
	r.served = make(chan struct{})
	r.http = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
			r.signed(h.Header.Get("Authorization"), h.Header.Get("X-Amz-Security-Token"))
			body, err := io.ReadAll(h.Body)
			if err != nil {
				return // its connection was cut
			}
			_, operation, _ := strings.Cut(h.Header.Get("X-Amz-Target"), ".")
			r.before(operation)
			defer r.after(operation)
			_ = api.Serve(w, &awsjson.Request{Caller: hearth.Identity{Account: account, UserID: "me"}, RequestID: "id", HTTP: h, Body: body}) // the answer tells it too
		}),
		ConnState: func(c net.Conn, state http.ConnState) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.conns[c] = true; state == http.StateClosed {
				delete(r.conns, c)
			}
		},
	}
	go func(server *http.Server, served chan struct{}) {
		defer close(served)
		_ = server.Serve(listener) // until it is closed
	}(r.http, r.served)
}

// Kill implements sourcetest.Broker.
func (r *remote) Kill() {
	if err := r.http.Close(); err != nil {
		r.t.Error(err)
	}
	<-r.served
	for _, c := range []io.Closer{r.service, r.store} {
		if err := c.Close(); err != nil {
			r.t.Error(err)
		}
	}
}

// Cut implements sourcetest.Broker.
func (r *remote) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		_ = c.Close() // it may be closed already
	}
}

var names atomic.Int64

// make makes a queue, and a mapping and a place that read it.
func (r *remote) make(suffix string, attributes map[string]string) (*event.Mapping, poll.Place) {
	r.t.Helper()
	name := fmt.Sprintf("orders%d%s", names.Add(1), suffix)
	if err := r.service.Create(r.t.Context(), account, name, attributes, nil); err != nil {
		r.t.Fatal(err)
	}
	return &event.Mapping{ID: name, Function: "f", Source: event.SourceARN("us-east-1", account, name), Region: "us-east-1", Scheme: "sqs+http",
			Settings: event.Settings{BatchSize: 10, WindowSeconds: new(0)}},
		poll.Place{URL: &url.URL{Scheme: "sqs+http", Host: r.addr, Path: "/" + string(account) + "/" + name, RawQuery: "region=eu-west-1"}, Secret: []byte("AKID:key")}
}

func (r *remote) arn(name string) string { return r.service.ARN(account, name) }

// left is how many messages the queue with the name has, seen and not.
func (r *remote) left(name string) (n int) {
	r.t.Helper()
	got, err := r.service.Attributes(r.t.Context(), account, name, []string{"All"})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, kind := range []string{"", "NotVisible", "Delayed"} {
		some, err := strconv.Atoi(got["ApproximateNumberOfMessages"+kind])
		if err != nil {
			r.t.Fatal(err)
		}
		n += some
	}
	return n
}

// source is the server's queues as a source under test, each with the attributes.
func (r *remote) source(attributes map[string]string) sourcetest.Source {
	return sourcetest.Source{
		Opener: queue.Elsewhere, Broker: r, Redelivers: true, Keeps: true,
		New: func(*testing.T) (*event.Mapping, poll.Place) { return r.make("", attributes) },
		Publish: func(t *testing.T, m *event.Mapping, ids []string) {
			for _, id := range ids {
				must(t, r.service.Send(t.Context(), r.arn(m.ID), sourcetest.Body(id), nil))
			}
		},
		IDs:  sourcetest.Queued,
		Left: func(t *testing.T, m *event.Mapping) int { return r.left(m.ID) },
	}
}

func TestQueueElsewhere(t *testing.T) {
	t.Parallel()
	sourcetest.Run(t, newRemote(t).source(map[string]string{"VisibilityTimeout": "5"}))
}

func TestPoisonGoesToTheDeadLetterQueueOfItsServer(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	dead, _ := r.make("", nil)
	redrive, err := json.Marshal(map[string]any{"deadLetterTargetArn": r.arn(dead.ID), "maxReceiveCount": 2})
	must(t, err)
	s := r.source(map[string]string{"VisibilityTimeout": "5", "RedrivePolicy": string(redrive)})
	m, at := s.New(t)
	m.Settings.BatchSize = 1
	ids := sourcetest.IDs("a", 10)
	s.Publish(t, m, append([]string{"poison"}, ids...))
	reader := sourcetest.Read(t, s, sourcetest.Store(t), m, at, func(ids []string) error {
		if ids[0] == "poison" {
			return errors.New("cannot process this")
		}
		return nil
	})
	reader.Processed(ids)
	got, err := r.service.Receive(t.Context(), r.arn(dead.ID), sqs.ReceiveOptions{Wait: 20 * time.Second})
	for deadline := time.Now().Add(3 * time.Minute); err == nil && len(got) == 0 && time.Now().Before(deadline); {
		got, err = r.service.Receive(t.Context(), r.arn(dead.ID), sqs.ReceiveOptions{Wait: 20 * time.Second})
	}
	if err != nil || len(got) != 1 || got[0].Body != string(sourcetest.Body("poison")) || reader.Tried("poison") != 2 {
		t.Errorf("%+v, tried %d times, %v", got, reader.Tried("poison"), err)
	}
}

func TestMessagesOfElsewhereAreThoseThatTheirQueueHas(t *testing.T) {
	t.Parallel()
	r, ctx := newRemote(t), t.Context()
	m, at := r.make(".fifo", map[string]string{"FifoQueue": "true", "VisibilityTimeout": "30"})
	for i := range 25 {
		must(t, r.service.Send(ctx, r.arn(m.ID), []byte(strconv.Itoa(i)), map[string]string{"MessageGroupId": "g", "MessageDeduplicationId": strconv.Itoa(i), "k": "v"}))
	}
	q := sourcetest.Opened[*queue.Queue](t, queue.Elsewhere, m, at)
	if traits := q.Traits(); !traits.Redelivers || traits.Hold != 30*time.Second {
		t.Errorf("%+v", traits)
	}
	got := take(t, q, 10)
	payload, err := q.Event(got)
	must(t, err)
	e := sourcetest.Decode[events.SQSEvent](t, payload)
	one := e.Records[0]
	if len(e.Records) != 10 || one.MessageId != got[0].ID || one.Body != "0" || one.EventSource != "aws:sqs" || one.EventSourceARN != r.arn(m.ID) || one.AWSRegion != "eu-west-1" ||
		one.Md5OfBody != sqs.BodyMD5("0") || one.Attributes["MessageGroupId"] != "g" || one.Attributes["ApproximateReceiveCount"] != "1" || len(one.Attributes["SentTimestamp"]) != 13 ||
		*one.MessageAttributes["k"].StringValue != "v" || got[0].Group != "g" || got[0].Sent.IsZero() {
		t.Errorf("the first is %+v", one)
	}
	for i, one := range e.Records {
		if one.Body != strconv.Itoa(i) {
			t.Errorf("message %d is %s", i, one.Body)
		}
	}
	if more, err := q.Take(ctx, 10, 0); err != nil || len(more) != 0 {
		t.Errorf("%d of a group that is held, %v", len(more), err)
	}
	must(t, q.Extend(ctx, got))
	must(t, q.Ack(ctx, got[:4]))
	must(t, q.Release(ctx, got[4:], poll.Unused))
	if again := take(t, q, 10); again[0].ID != got[4].ID {
		t.Errorf("given back %s, got %s", got[4].ID, again[0].ID)
	}
	if err := q.Ack(ctx, []*poll.Record{{Handle: "none"}}); err == nil || !strings.Contains(err.Error(), "ReceiptHandleIsInvalid") {
		t.Errorf("a receipt of nothing: %v", err)
	}
}

func TestRequestsAreSignedForTheQueuesRegionByItsKeys(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	m, at := r.make("", nil)
	type shown struct{ authorization, token string }
	asked := make(chan shown, 1)
	r.signed = func(authorization, token string) { asked <- shown{authorization, token} }
	for _, c := range []struct{ secret, user, query, want, token string }{
		{`{"AccessKeyId": "AKID", "SecretAccessKey": "x", "SessionToken": "t"}`, "", "region=eu-west-1", "Credential=AKID/", "t"},
		{`{"username": "AKID", "password": "x"}`, "", "region=eu-west-1", "Credential=AKID/", ""},
		{"AKID:x", "", "region=eu-west-1", "Credential=AKID/", ""},
		{"x", "AKID", "region=eu-west-1", "Credential=AKID/", ""},
		{"AKID:x", "", "", "/us-east-1/sqs/aws4_request", ""}, // the mapping's, as the host has none
		{"AKID:x", "", "region=eu-west-1", "/eu-west-1/sqs/aws4_request", ""},
		{"", "", "", "", ""},
	} {
		place := poll.Place{URL: new(*at.URL), Secret: []byte(c.secret)}
		if place.URL.RawQuery = c.query; c.user != "" {
			place.URL.User = url.User(c.user)
		}
		sourcetest.Opened[*queue.Queue](t, queue.Elsewhere, m, place)
		got := <-asked
		if !strings.Contains(got.authorization, c.want) || got.token != c.token || c.want == "" && got.authorization != "" {
			t.Errorf("with %q the request had %+v", c.secret, got)
		}
	}
}

func TestWhatCannotBeReadElsewhereIsSaid(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	m, at := r.make("", nil)
	for path, want := range map[string]string{"/": "sqs+ before it", "/000000000000/none": "The specified queue does not exist"} {
		place := poll.Place{URL: new(*at.URL), Secret: at.Secret}
		place.URL.Path = path
		if _, err := queue.Elsewhere.Open(t.Context(), m, place); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "AKID") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// traffic counts a server's requests by their operation, and what else a test
// counts.
type traffic struct {
	mu      sync.Mutex
	changed chan struct{}
	of      map[string]counts
}

type counts struct{ now, most, all int } // under way, at once, so far

func watch(r *remote) *traffic {
	c := &traffic{changed: make(chan struct{}), of: map[string]counts{}}
	r.before = func(operation string) { c.begin(operation) }
	r.after = c.end
	return c
}

func (c *traffic) begin(operation string) counts { return c.count(operation, 1) }
func (c *traffic) end(operation string)          { c.count(operation, -1) }

func (c *traffic) count(operation string, by int) counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.of[operation]
	of.now += by
	of.most = max(of.most, of.now)
	of.all += max(by, 0)
	c.of[operation] = of
	close(c.changed)
	c.changed = make(chan struct{})
	return of
}

// until waits until what is so of an operation's counts, and returns them.
func (c *traffic) until(t *testing.T, operation string, so func(counts) bool) counts {
	t.Helper()
	for deadline := time.After(2 * time.Minute); ; {
		c.mu.Lock()
		of, changed := c.of[operation], c.changed
		c.mu.Unlock()
		if so(of) {
			return of
		}
		select {
		case <-changed:
		case <-deadline:
			t.Errorf("%s is still %+v", operation, of)
			return of
		}
	}
}

const receive, remove = "ReceiveMessage", "DeleteMessageBatch"

func TestAQueueSomeWayOffIsReadByManyRequestsAtOnce(t *testing.T) {
	t.Parallel()
	const roundTrip = 30 * time.Millisecond
	r := newRemote(t)
	c := watch(r)
	r.before = func(operation string) {
		c.begin(operation)
		time.Sleep(roundTrip)
	}
	s := r.source(map[string]string{"VisibilityTimeout": "300"})
	m, at := s.New(t)
	ids := sourcetest.IDs("a", 600)
	s.Publish(t, m, ids)
	reader := sourcetest.Read(t, s, sourcetest.Store(t), m, at, nil)
	reader.Processed(ids)
	c.until(t, remove, func(of counts) bool { return of.now == 0 && r.left(m.ID) == 0 })
	many := c.until(t, receive, func(of counts) bool { return of.now == 1 })
	if many.most < 4 {
		t.Errorf("at most %d requests for messages were under way at once", many.most)
	}
	// It waits with one request until there is something again.
	s.Publish(t, m, []string{"b"})
	reader.Processed([]string{"b"})
	c.until(t, receive, func(of counts) bool { return of.now == 1 && of.all > many.all })
}

func TestAStopGivesBackWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	c := watch(r)
	stopping := make(chan struct{})
	r.after = func(operation string) {
		c.end(operation)
		if operation == receive && c.until(t, receive, func(counts) bool { return true }).all > 20 {
			c.begin("held")
			<-stopping // its answer comes when nobody wants it any more
		}
	}
	s := r.source(map[string]string{"VisibilityTimeout": "3600"})
	m, at := s.New(t)
	s.Publish(t, m, sourcetest.IDs("a", 600))
	reader := sourcetest.Read(t, s, sourcetest.Store(t), m, at, nil)
	c.until(t, "held", func(of counts) bool { return of.now >= 2 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); reader.Stop() }()
	close(stopping)
	<-stopped
	got, err := r.service.Attributes(t.Context(), account, m.ID, []string{"All"})
	must(t, err)
	if got["ApproximateNumberOfMessagesNotVisible"] != "0" || got["ApproximateNumberOfMessages"] == "0" {
		t.Errorf("after the stop the queue has %v", got)
	}
}

// A batch of more than one request's messages is asked for by twice as many
// requests at a time, as long as they are full, and deleted by several at once.
func TestALargeBatchIsAskedForAndDeletedByManyRequestsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	m, at := r.make(".fifo", map[string]string{"FifoQueue": "true", "VisibilityTimeout": "300"})
	for i := range 200 {
		must(t, r.service.Send(t.Context(), r.arn(m.ID), []byte(strconv.Itoa(i%10)), map[string]string{"MessageGroupId": strconv.Itoa(i / 10), "MessageDeduplicationId": strconv.Itoa(i)}))
	}
	q := sourcetest.Opened[*queue.Queue](t, queue.Elsewhere, m, at)
	c := watch(r)
	r.before = func(operation string) {
		if of := c.begin(operation); operation == remove || operation == receive && of.all > 3 {
			c.until(t, operation, func(of counts) bool { return of.most >= 4 })
		}
	}
	got := take(t, q, 200)
	next := map[string]int{}
	for _, one := range got {
		var e events.SQSMessage
		must(t, json.Unmarshal(one.Body, &e))
		if e.Body != strconv.Itoa(next[one.Group]) {
			t.Errorf("of the group %s comes %s, want %d", one.Group, e.Body, next[one.Group])
		}
		next[one.Group]++
	}
	must(t, q.Ack(t.Context(), got))
	if n := r.left(m.ID); n != 0 {
		t.Errorf("%d messages are left", n)
	}
	for _, operation := range []string{receive, remove} {
		if of := c.until(t, operation, func(of counts) bool { return of.now == 0 }); of.most > 8 {
			t.Errorf("%d of %s were under way at once", of.most, operation)
		}
	}
}
