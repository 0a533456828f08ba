package sqs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/sqlite"
	"github.com/hearth-faas/hearth/store/storetest"
)

const account = hearth.Account("000000000000")

var start = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// world is a service over a store that can be opened again, as after a kill.
type world struct {
	t     testing.TB
	clock *clock.Fake
	store store.Store
	*Service
}

func newWorld(t testing.TB) *world {
	t.Helper()
	st, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, clock: clock.NewFake(start), store: st}
	w.open()
	t.Cleanup(func() {
		if err := errors.Join(w.Close(), st.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) open() {
	w.t.Helper()
	s, err := Open(context.Background(), Config{Store: w.store, Clock: w.clock, Region: "us-east-1"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Service = s
}

// reopen forgets all that is only in memory.
func (w *world) reopen() {
	w.t.Helper()
	if err := w.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

func (w *world) create(name string, attributes ...string) string {
	w.t.Helper()
	m := map[string]string{}
	for i := 0; i < len(attributes); i += 2 {
		m[attributes[i]] = attributes[i+1]
	}
	if len(name) > 5 && name[len(name)-5:] == ".fifo" {
		m["FifoQueue"] = "true"
	}
	if err := w.Create(context.Background(), account, name, m, nil); err != nil {
		w.t.Fatal(err)
	}
	return w.ARN(account, name)
}

func (w *world) send(arn string, bodies ...string) {
	w.t.Helper()
	for _, b := range bodies {
		if err := w.Send(context.Background(), arn, []byte(b), nil); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) sendTo(arn, group, id, body string) (Sent, error) {
	w.t.Helper()
	q, err := w.byARN(arn)
	if err != nil {
		w.t.Fatal(err)
	}
	sent, errs := q.send(context.Background(), []Outgoing{{Body: body, Group: group, Deduplication: id}})
	return sent[0], errs[0]
}

func (w *world) receive(arn string, max int) []Message {
	w.t.Helper()
	got, err := w.Receive(context.Background(), arn, ReceiveOptions{Max: max})
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

func (w *world) delete(arn string, ms ...Message) {
	w.t.Helper()
	for _, m := range ms {
		if err := w.Delete(context.Background(), arn, m.Handle)[0]; err != nil {
			w.t.Fatal(err)
		}
	}
}

// eventually waits until a condition holds that something in the background
// brings about.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("after a minute still not: " + what)
		}
	}
}

func bodies(ms []Message) (b []string) {
	for _, m := range ms {
		b = append(b, m.Body)
	}
	return b
}

func TestAMessageIsKeptFromOthersUntilItsTimeoutAndGoneOnceDeleted(t *testing.T) {
	w := newWorld(t)
	q := w.create("q", "VisibilityTimeout", "30")
	w.send(q, "a")
	first := w.receive(q, 10)
	if len(first) != 1 || first[0].Body != "a" || first[0].Receives != 1 || len(w.receive(q, 10)) != 0 {
		t.Fatalf("received %+v, and then it should be hidden", first)
	}
	w.clock.Advance(30 * time.Second)
	second := w.receive(q, 10)
	if len(second) != 1 || second[0].ID != first[0].ID || second[0].Receives != 2 || second[0].Handle == first[0].Handle || !second[0].FirstReceived.Equal(first[0].FirstReceived) {
		t.Fatalf("after its timeout: %+v, before %+v", second, first)
	}
	w.delete(q, first...) // an old receipt deletes nothing
	w.clock.Advance(30 * time.Second)
	third := w.receive(q, 10)
	w.delete(q, third...)
	w.clock.Advance(time.Hour)
	if len(third) != 1 || len(w.receive(q, 10)) != 0 {
		t.Errorf("received %v, and after its deletion again", third)
	}
}

func TestWhatWasAcknowledgedIsThereAfterAKill(t *testing.T) {
	w := newWorld(t)
	q := w.create("q", "VisibilityTimeout", "60")
	w.send(q, "held", "deleted", "delayed", "waiting")
	got := w.receive(q, 3)
	w.delete(q, got[1])
	if err := w.ChangeVisibility(context.Background(), q, Visibility{got[2].Handle, time.Hour})[0]; err != nil {
		t.Fatal(err)
	}
	w.reopen()
	if got := bodies(w.receive(q, 10)); !slices.Equal(got, []string{"waiting"}) {
		t.Errorf("visible after the start: %v", got)
	}
	w.clock.Advance(time.Minute)
	again := w.receive(q, 10)
	if b := bodies(again); len(b) != 2 || !slices.Contains(b, "held") || !slices.Contains(b, "waiting") {
		t.Errorf("after their timeout: %v", b)
	}
	for _, m := range again {
		if m.Receives != 2 {
			t.Errorf("%s was received %d times", m.Body, m.Receives)
		}
	}
	w.clock.Advance(time.Hour)
	if err := w.Delete(context.Background(), q, got[2].Handle)[0]; err != nil {
		t.Errorf("a receipt from before the kill: %v", err)
	}
	for _, m := range w.receive(q, 10) {
		if m.Body == "delayed" || m.Body == "deleted" {
			t.Errorf("%s is still there", m.Body)
		}
	}
}

func TestALongPollIsWokenByTheMessage(t *testing.T) {
	w := newWorld(t)
	q := w.create("q", "VisibilityTimeout", "43200")
	got := make(chan []Message)
	for range 3 {
		go func() {
			ms, err := w.Receive(context.Background(), q, ReceiveOptions{Max: 1, Wait: time.Hour})
			if err != nil {
				t.Error(err)
			}
			got <- ms
		}()
	}
	eventually(t, "three wait", func() bool { return w.Stats().Waiting == 3 })
	w.send(q, "a", "b")
	if a, b := <-got, <-got; len(a) != 1 || len(b) != 1 {
		t.Errorf("woken with %v and %v", a, b)
	}
	w.clock.Advance(time.Hour)
	if c := <-got; len(c) != 0 {
		t.Errorf("the third got %v", c)
	}
}

func TestALongPollWhoseCallerLeftTakesNothingAndHandsItsTurnOn(t *testing.T) {
	w := newWorld(t)
	q := w.create("q", "VisibilityTimeout", "43200")
	for range 50 {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		var early []Message // of the first, if it had its answer before its caller left
		wg.Go(func() { early, _ = w.Receive(ctx, q, ReceiveOptions{Wait: time.Hour}) })
		got := make(chan []Message, 1)
		eventually(t, "the first waits", func() bool { return w.Stats().Waiting == 1 })
		go func() {
			ms, err := w.Receive(context.Background(), q, ReceiveOptions{Wait: time.Hour})
			if err != nil {
				t.Error(err)
			}
			got <- ms
		}()
		eventually(t, "both wait", func() bool { return w.Stats().Waiting == 2 })
		go cancel()
		w.send(q, "a")
		wg.Wait()
		if len(early) > 0 {
			w.delete(q, early...)
			w.send(q, "a")
		}
		ms := <-got
		if len(ms) != 1 {
			t.Fatalf("got %v", ms)
		}
		w.delete(q, ms...)
	}
}

func TestDelaysOfTheQueueAndOfTheMessage(t *testing.T) {
	w := newWorld(t)
	q := w.create("q", "DelaySeconds", "10")
	qq, _ := w.byARN(q)
	_, errs := qq.send(context.Background(), []Outgoing{{Body: "queue's"}, {Body: "own", Delay: new(20 * time.Second)}, {Body: "none", Delay: new(time.Duration(0))}})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	for _, want := range []string{"none", "queue's", "own"} {
		if got := bodies(w.receive(q, 10)); !slices.Equal(got, []string{want}) {
			t.Errorf("received %v, want %s", got, want)
		}
		w.clock.Advance(10 * time.Second)
	}
}

func TestAMessageThatIsReceivedTooOftenGoesToTheDeadLetters(t *testing.T) {
	for _, suffix := range []string{"", ".fifo"} {
		w := newWorld(t)
		dead := w.create("dead" + suffix)
		q := w.create("q"+suffix, "VisibilityTimeout", "1", "RedrivePolicy", `{"deadLetterTargetArn":"`+dead+`","maxReceiveCount":2}`)
		w.send(q, "poison", "next")
		var id string
		for range 2 {
			got := w.receive(q, 1)
			id = got[0].ID
			w.clock.Advance(time.Second)
			if suffix == "" {
				w.delete(q, w.receive(q, 1)...) // the other one, if it is there
			}
		}
		eventually(t, "it has moved", func() bool { return w.Stats().Moved == 1 })
		w.reopen()
		got := w.receive(dead, 10)
		if len(got) != 1 || got[0].Body != "poison" || got[0].ID != id || got[0].DeadLetterOf != q || got[0].Receives != 3 {
			t.Fatalf("dead letters: %+v", got)
		}
		if suffix == ".fifo" {
			if got := bodies(w.receive(q, 10)); !slices.Equal(got, []string{"next"}) {
				t.Errorf("its group goes on with %v", got)
			}
		}
		// Back to where it came from.
		if err := w.ChangeVisibility(context.Background(), dead, Visibility{got[0].Handle, 0})[0]; err != nil {
			t.Fatal(err)
		}
		task, err := w.StartTask(context.Background(), account, dead, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the task has ended", func() bool { tt, _ := w.FindTask(task.Handle()); return tt.Status == TaskCompleted })
		if tt, _ := w.FindTask(task.Handle()); tt.Moved != 1 || tt.ToMove != 1 {
			t.Errorf("the task: %+v", tt)
		}
		w.clock.Advance(time.Minute)
		back := w.receive(q, 10)
		if len(back) == 0 || back[len(back)-1].Body != "poison" || back[len(back)-1].Receives != 1 || back[len(back)-1].DeadLetterOf != "" {
			t.Errorf("back in its queue: %+v", back)
		}
	}
}

func TestAQueueThatMayNotGiveUpKeepsItsMessages(t *testing.T) {
	w := newWorld(t)
	dead := w.create("dead", "RedriveAllowPolicy", `{"redrivePermission":"denyAll"}`)
	q := w.create("q", "VisibilityTimeout", "0", "RedrivePolicy", `{"deadLetterTargetArn":"`+dead+`","maxReceiveCount":1}`)
	w.send(q, "a")
	for i := range 3 {
		if got := w.receive(q, 1); len(got) != 1 || got[0].Receives != i+1 {
			t.Fatalf("received %v", got)
		}
	}
	if err := w.SetAttributes(context.Background(), account, "dead", map[string]string{"RedriveAllowPolicy": ""}); err != nil {
		t.Fatal(err)
	}
	if got := w.receive(q, 1); len(got) != 0 {
		t.Errorf("now it may: %v", got)
	}
	eventually(t, "it has moved", func() bool { return len(w.receive(dead, 1)) == 1 })
}

func TestAGroupIsReceivedInOrderAndOneAtATime(t *testing.T) {
	w := newWorld(t)
	q := w.create("q.fifo")
	for i := range 6 {
		if _, err := w.sendTo(q, fmt.Sprint("g", i%2), fmt.Sprint(i), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	a := w.receive(q, 2) // of the first group
	b := w.receive(q, 10)
	if !slices.Equal(bodies(a), []string{"0", "2"}) || !slices.Equal(bodies(b), []string{"1", "3", "5"}) {
		t.Fatalf("received %v and %v", bodies(a), bodies(b))
	}
	w.delete(q, a[0])
	if got := w.receive(q, 10); len(got) != 0 {
		t.Errorf("the rest of a group that is held: %v", bodies(got))
	}
	w.clock.Advance(30 * time.Second)
	if err := w.Delete(context.Background(), q, a[1].Handle)[0]; err == nil {
		t.Error("a FIFO queue takes a receipt that is over")
	}
	if got := bodies(w.receive(q, 10)); !slices.Equal(got, []string{"2", "4", "1", "3", "5"}) && !slices.Equal(got, []string{"1", "3", "5", "2", "4"}) {
		t.Errorf("after the timeout: %v", got)
	}
}

func TestWhatIsSentAgainWithinFiveMinutesIsTakenOnce(t *testing.T) {
	w := newWorld(t)
	q := w.create("q.fifo", "ContentBasedDeduplication", "true")
	first, err := w.sendTo(q, "g", "id", "a")
	if err != nil {
		t.Fatal(err)
	}
	w.reopen()
	w.clock.Advance(5*time.Minute - time.Millisecond)
	again, err := w.sendTo(q, "h", "id", "b")
	if err != nil || again != first {
		t.Errorf("again: %+v, %v, first %+v", again, err, first)
	}
	w.clock.Advance(time.Millisecond)
	later, err := w.sendTo(q, "g", "id", "c")
	if err != nil || later == first {
		t.Errorf("later: %+v, %v", later, err)
	}
	if got := bodies(w.receive(q, 10)); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("received %v", got)
	}
	x, _ := w.sendTo(q, "g", "", "same")
	y, _ := w.sendTo(q, "g", "", "same")
	z, _ := w.sendTo(q, "g", "", "other")
	if x != y || x == z {
		t.Errorf("by content: %v %v %v", x, y, z)
	}
}

func TestMessagesPastTheirRetentionAreGone(t *testing.T) {
	w := newWorld(t)
	q := w.create("q", "MessageRetentionPeriod", "60")
	w.send(q, "old", "held")
	w.receive(q, 1)
	w.clock.Advance(59 * time.Second)
	w.send(q, "new")
	w.clock.Advance(time.Second)
	if got := bodies(w.receive(q, 10)); !slices.Equal(got, []string{"new"}) {
		t.Errorf("received %v", got)
	}
	if err := w.SetAttributes(context.Background(), account, "q", map[string]string{"MessageRetentionPeriod": "3600"}); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(10 * time.Minute)
	if got := bodies(w.receive(q, 10)); !slices.Equal(got, []string{"new"}) {
		t.Errorf("kept longer: %v", got)
	}
}

func TestAPurgedQueueIsEmptyAlsoAfterAKill(t *testing.T) {
	w := newWorld(t)
	q := w.create("q")
	w.send(q, "a", "b")
	w.receive(q, 1)
	if err := w.Purge(context.Background(), account, "q"); err != nil {
		t.Fatal(err)
	}
	if err := w.Purge(context.Background(), account, "q"); hearth.KindOf(err) != PurgeInProgress {
		t.Errorf("again at once: %v", err)
	}
	w.send(q, "c")
	w.reopen()
	w.clock.Advance(time.Hour)
	if got := bodies(w.receive(q, 10)); !slices.Equal(got, []string{"c"}) {
		t.Errorf("received %v", got)
	}
}

func TestADeletedQueueLeavesNothingOnDisk(t *testing.T) {
	w := newWorld(t)
	q := w.create("q.fifo")
	w.send(q, "a", "b")
	if err := w.DeleteQueue(context.Background(), account, "q.fifo"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Receive(context.Background(), q, ReceiveOptions{}); hearth.KindOf(err) != NoQueue {
		t.Errorf("received of a deleted queue: %v", err)
	}
	w.reopen()
	err := w.store.View(context.Background(), func(r store.Reader) error {
		for _, b := range []string{queuesBucket, indexBucket, bodyBucket, dedupBucket} {
			for rec := range r.Scan(b, "", "") {
				t.Errorf("%s has %s", b, rec.Key)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsReleasedComesAtOnceAndDoesNotCount(t *testing.T) {
	w := newWorld(t)
	q := w.create("q")
	w.send(q, "a")
	got := w.receive(q, 1)
	if err := w.Release(context.Background(), q, got[0].Handle)[0]; err != nil {
		t.Fatal(err)
	}
	if again := w.receive(q, 1); len(again) != 1 || again[0].Receives != 1 {
		t.Errorf("received %+v", again)
	}
}

func TestOnlyWhomThePolicyLetsInGetsIn(t *testing.T) {
	w := newWorld(t)
	w.create("q")
	other := hearth.Identity{Account: "111111111111", ARN: "arn:aws:iam::111111111111:root"}
	own := hearth.Identity{Account: account, ARN: "arn:aws:iam::" + string(account) + ":root"}
	rule := hearth.Identity{Service: "events.amazonaws.com"}
	allowed := func(id hearth.Identity, action string) bool {
		return w.Allowed(t.Context(), id, action, account, "q", nil) == nil
	}
	if !allowed(own, "SendMessage") || allowed(other, "SendMessage") || allowed(rule, "SendMessage") {
		t.Error("without a policy only the own account gets in")
	}
	if err := w.AddPermission(context.Background(), account, "q", "l", []string{"111111111111"}, []string{"SendMessage"}); err != nil {
		t.Fatal(err)
	}
	if !allowed(other, "SendMessage") || allowed(other, "ReceiveMessage") {
		t.Error("the permission is for SendMessage")
	}
	if err := w.RemovePermission(context.Background(), account, "q", "l"); err != nil || allowed(other, "SendMessage") {
		t.Error("removed:", err)
	}
	deny := `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"sqs:SendMessage","Resource":"*"}}`
	if err := w.SetAttributes(context.Background(), account, "q", map[string]string{"Policy": deny}); err != nil {
		t.Fatal(err)
	}
	if allowed(own, "SendMessage") || !allowed(own, "ReceiveMessage") || !allowed(own, "SetQueueAttributes") {
		t.Error("a policy denies its own account what it says, and never the way back")
	}
}

// How a request came is for a queue's policy to ask, with a judge of callers and
// without: most say that they take nothing in plain text.
func TestAQueuesPolicyAsksHowARequestCame(t *testing.T) {
	w := newWorld(t)
	w.create("q")
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"sqs:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}},` +
		`{"Effect":"Allow","Principal":"*","Action":"sqs:SendMessage","Resource":"*"}]}`
	if err := w.SetAttributes(t.Context(), account, "q", map[string]string{"Policy": policy}); err != nil {
		t.Fatal(err)
	}
	dir, err := iam.Open(t.Context(), iam.Config{Store: &storetest.Memory{}, Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	for _, judge := range []*access.Judge{nil, access.New(dir, w.clock, "us-east-1")} {
		w.cfg.Judge = judge
		for _, who := range []hearth.Identity{
			{Account: account, ARN: "arn:aws:iam::" + string(account) + ":root"}, {Account: "111111111111", ARN: "arn:aws:iam::111111111111:root"}, {Service: "events.amazonaws.com"},
		} {
			for _, secure := range []bool{true, false} {
				ctx := access.Arrived(t.Context(), access.Origin{Secure: secure})
				want := secure || who.Service != "" // which is inside
				if err := w.Allowed(ctx, who, "SendMessage", account, "q", nil); (err == nil) != want {
					t.Errorf("judged %v, by %+v, securely %v: %v", judge != nil, who, secure, err)
				}
			}
		}
	}
}
