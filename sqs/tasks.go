package sqs

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// The statuses of tasks.
const (
	TaskRunning    = "RUNNING"
	TaskCompleted  = "COMPLETED"
	TaskCancelling = "CANCELLING"
	TaskCancelled  = "CANCELLED"
	TaskFailed     = "FAILED"
)

// Task moves the messages of a dead-letter queue back to where they came from,
// or to another queue. It is durable: a restart goes on with it.
type Task struct {
	ID          string         `json:"id"`
	Account     hearth.Account `json:"account"`
	Source      string         `json:"source"`                // an ARN
	Destination string         `json:"destination,omitempty"` // an ARN; "" is where each came from
	PerSecond   int            `json:"perSecond,omitempty"`   // 0 is as fast as it goes
	Status      string         `json:"status"`
	Started     int64          `json:"started"` // milliseconds since 1970
	Moved       int            `json:"moved"`
	ToMove      int            `json:"toMove"`
	Failure     string         `json:"failure,omitempty"`
	Last        uint64         `json:"last"` // what was sent later is not moved
}

// Handle names the task to CancelTask.
func (t *Task) Handle() string {
	return base64.RawURLEncoding.EncodeToString([]byte(`{"taskId":"` + t.ID + `","sourceArn":"` + t.Source + `"}`))
}

// tasksKept is how many tasks of a queue are remembered.
const tasksKept = 10

// tasks are the tasks of all queues.
type tasks struct {
	mu sync.Mutex
	m  map[string]*Task // by id; replaced as a whole
}

func (t *tasks) load(r store.Reader) error {
	t.m = map[string]*Task{}
	for rec, err := range r.Scan(tasksBucket, "", "") {
		if err != nil {
			return err
		}
		task := new(Task)
		if err := json.Unmarshal(rec.Value, task); err != nil {
			return fmt.Errorf("the record of the task %s is damaged: %w", rec.Key, err)
		}
		t.m[rec.Key] = task
	}
	return nil
}

// of returns the tasks of a queue, the newest first.
func (t *tasks) of(source string) (found []*Task) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, task := range t.m {
		if task.Source == source {
			found = append(found, task)
		}
	}
	slices.SortFunc(found, func(a, b *Task) int {
		return cmp.Or(cmp.Compare(b.Started, a.Started), cmp.Compare(b.ID, a.ID))
	})
	return found
}

// change replaces a task by what change makes of it, on disk first.
func (s *Service) changeTask(id string, change func(*Task)) (*Task, error) {
	s.tasks.mu.Lock()
	defer s.tasks.mu.Unlock()
	task := *s.tasks.m[id]
	change(&task)
	b, err := json.Marshal(&task)
	if err != nil {
		return nil, err
	}
	if err := s.journal.do([]write{{tasksBucket, id, b}}); err != nil {
		return nil, err
	}
	s.tasks.m[id] = &task
	return &task, nil
}

// StartTask begins to move messages. Errors: NoResource,
// UnsupportedOperation, Service.
func (s *Service) StartTask(_ context.Context, account hearth.Account, source, destination string, perSecond int) (*Task, error) {
	q, err := s.byARN(source)
	if err != nil {
		return nil, hearth.Errorf(NoResource, "The resource that you specified for the SourceArn parameter doesn't exist.")
	}
	if destination != "" {
		to, err := s.byARN(destination)
		switch {
		case err != nil:
			return nil, hearth.Errorf(NoResource, "The resource that you specified for the DestinationArn parameter doesn't exist.")
		case to == q:
			return nil, hearth.Errorf(InvalidParameter, "Source queue arn and destination queue arn can't be the same.")
		case to.fifo != q.fifo:
			return nil, hearth.Errorf(InvalidParameter, "The source and the destination must be queues of the same type.")
		}
	}
	if perSecond < 0 || perSecond > 500 {
		return nil, invalidParameter("MaxNumberOfMessagesPerSecond", perSecond, "Must be between 1 and 500.")
	}
	if names, _, err := s.Sources(q.account, q.name, "", 1); err != nil || len(names) == 0 {
		return nil, hearth.Errorf(InvalidParameter, "Source queue must be configured as a Dead Letter Queue.")
	}
	old := s.tasks.of(source)
	for _, t := range old {
		if t.Status == TaskRunning || t.Status == TaskCancelling {
			return nil, hearth.Errorf(UnsupportedOperation, "There is already a task running. Only one active task is allowed for a source queue arn at a given time.")
		}
	}
	q.lock()
	count := q.counts[visible]
	q.unlock()
	task := &Task{
		ID: uuid.NewString(), Account: account, Source: source, Destination: destination, PerSecond: perSecond,
		Status: TaskRunning, Started: s.now(), ToMove: count, Last: s.number(1),
	}
	b, err := json.Marshal(task)
	if err != nil {
		return nil, err
	}
	writes := []write{{tasksBucket, task.ID, b}}
	s.tasks.mu.Lock()
	for i := tasksKept - 1; i < len(old); i++ {
		writes = append(writes, write{tasksBucket, old[i].ID, nil})
		delete(s.tasks.m, old[i].ID)
	}
	err = s.journal.do(writes)
	if err == nil {
		s.tasks.m[task.ID] = task
	}
	s.tasks.mu.Unlock()
	if err != nil {
		return nil, stored("StartTask", err)
	}
	s.runTask(task)
	return task, nil
}

// Tasks returns the newest tasks of a queue. Errors: NoResource.
func (s *Service) Tasks(_ context.Context, source string, max int) ([]*Task, error) {
	if _, err := s.byARN(source); err != nil {
		return nil, hearth.Errorf(NoResource, "The resource that you specified for the SourceArn parameter doesn't exist.")
	}
	found := s.tasks.of(source)
	return found[:min(max, len(found))], nil
}

// FindTask returns the task of a handle. Errors: NoResource.
func (s *Service) FindTask(handle string) (*Task, error) {
	var in struct{ TaskID string }
	b, err := base64.RawURLEncoding.DecodeString(handle)
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	s.tasks.mu.Lock()
	defer s.tasks.mu.Unlock()
	t := s.tasks.m[in.TaskID]
	if err != nil || t == nil {
		return nil, hearth.Errorf(NoResource, "Task does not exist.")
	}
	return t, nil
}

// CancelTask ends a running task; what was moved stays where it is. It returns
// how many were. Errors: UnsupportedOperation, Service.
func (s *Service) CancelTask(_ context.Context, t *Task) (moved int, err error) {
	running := true
	now, err := s.changeTask(t.ID, func(t *Task) {
		if running = t.Status == TaskRunning; running {
			t.Status = TaskCancelling
		}
	})
	switch {
	case err != nil:
		return 0, stored("CancelTask", err)
	case !running:
		return 0, hearth.Errorf(UnsupportedOperation, "Only active tasks can be cancelled.")
	}
	return now.Moved, nil
}

// resumeTasks goes on with what a restart cut off.
func (s *Service) resumeTasks() {
	for _, t := range s.tasks.m {
		if t.Status == TaskRunning || t.Status == TaskCancelling {
			s.runTask(t)
		}
	}
}

func (s *Service) runTask(t *Task) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return
	}
	s.atWork.Add(1)
	go func() {
		defer s.atWork.Done()
		status, failure := s.moveAll(t)
		if status == "" {
			return // stopping: the next start goes on
		}
		if _, err := s.changeTask(t.ID, func(t *Task) { t.Status, t.Failure = status, failure }); err != nil {
			s.logged("the end of a task that moves messages could not be noted")(err)
		}
	}()
}

// moveAll moves messages until there are none, and tells how that ended.
func (s *Service) moveAll(t *Task) (status, failure string) {
	from, err := s.byARN(t.Source)
	if err != nil {
		return TaskFailed, "AWS.SimpleQueueService.NonExistentQueue"
	}
	for {
		s.tasks.mu.Lock()
		now := s.tasks.m[t.ID]
		s.tasks.mu.Unlock()
		if now.Status == TaskCancelling {
			return TaskCancelled, ""
		}
		most, began := tasksBatch, s.cfg.Clock.Now()
		if t.PerSecond > 0 {
			most = max(t.PerSecond/10, 1)
		}
		n, failed, err := s.moveSome(from, t, most)
		if n > 0 {
			if _, err := s.changeTask(t.ID, func(t *Task) { t.Moved += n }); err != nil {
				return TaskFailed, "the progress could not be stored"
			}
		}
		switch {
		case err != nil || failed != "":
			return TaskFailed, cmp.Or(failed, "the messages could not be stored")
		case n == 0:
			return TaskCompleted, ""
		}
		if t.PerSecond > 0 {
			pause := make(chan struct{})
			timer := s.cfg.Clock.AfterFunc(time.Duration(n)*time.Second/time.Duration(t.PerSecond)-s.cfg.Clock.Now().Sub(began), func() { close(pause) })
			select {
			case <-pause:
			case <-s.ctx.Done():
				timer.Stop()
			}
		}
		if s.ctx.Err() != nil {
			return "", ""
		}
	}
}

// tasksBatch is how many messages are moved at a time.
const tasksBatch = 100

// moveSome moves up to most messages, and returns when that is on disk.
func (s *Service) moveSome(from *queue, t *Task, most int) (n int, failed string, err error) {
	type step struct {
		m  *message
		to *queue
	}
	var steps []step
	from.lock()
	for len(steps) < most {
		m := from.oldest(t.Last)
		if m == nil {
			break
		}
		target := t.Destination
		if target == "" && m.source != nil {
			target = *m.source
		}
		to, terr := s.byARN(target)
		switch {
		case target == "":
			failed = "CouldNotDetermineMessageSource"
		case terr != nil:
			failed = "AWS.SimpleQueueService.NonExistentQueue"
		}
		if failed != "" {
			break
		}
		from.turn(m, moving)
		steps = append(steps, step{m, to})
	}
	from.unlock()
	ends := make(chan error, len(steps))
	for _, st := range steps {
		s.move(from, st.m, st.to, nil, func(err error) { ends <- err })
	}
	for range steps {
		if e := <-ends; e != nil {
			err = e
		} else {
			n++
		}
	}
	return n, failed, err
}

// oldest is a visible message that was there when a task began; nil is none.
func (q *queue) oldest(last uint64) *message {
	for m := q.ready.head; m != nil; m = m.next {
		if m.seq <= last {
			return m
		}
	}
	for g := q.open.head; g != nil; g = g.next {
		if g.line.head.seq <= last {
			return g.line.head
		}
	}
	return nil
}
