package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/taskset"
)

// Tasks are the task APIs of accounts and the subscriptions to them. Safe for
// concurrent use.
type Tasks interface {
	APIs(owner hearth.Account) ([]*taskset.API, error)
	Subscriptions(account hearth.Account) ([]*taskset.Subscription, error)
	Subscribers(owner hearth.Account, name string) ([]*taskset.Subscription, error)
	Names(account hearth.Account, alias string) map[string][]string
	Parameters(account hearth.Account, alias string) map[string][]hearth.Parameter
	Used(r *taskset.Subscription) (taskset.Counts, map[string]taskset.Counts)

	Create(ctx context.Context, owner hearth.Account, name, description string, settings taskset.Settings) (*taskset.API, error)
	Configure(ctx context.Context, owner hearth.Account, name string, settings taskset.Settings) (*taskset.API, error)
	Put(ctx context.Context, owner hearth.Account, name, stage string, c taskset.TaskChange) (*taskset.API, error)
	Point(ctx context.Context, owner hearth.Account, name, stage string, number int) (*taskset.API, error)
	Delete(ctx context.Context, owner hearth.Account, name string) error
	Approve(ctx context.Context, owner hearth.Account, name string, account hearth.Account, quota *taskset.Quota) (*taskset.API, error)
	Deny(ctx context.Context, owner hearth.Account, name string, account hearth.Account) error
	Withdraw(ctx context.Context, owner hearth.Account, name string, account hearth.Account) (*taskset.API, error)

	Subscribe(ctx context.Context, account, owner hearth.Account, name, alias string, want taskset.TaskWish) (*taskset.Subscription, error)
	Unsubscribe(ctx context.Context, account hearth.Account, alias string) error
	MakeKey(ctx context.Context, account hearth.Account, alias, name string) (taskset.Key, string, error)
	DeleteKey(ctx context.Context, account hearth.Account, alias, id string) error
}

// TaskList is the answer of /tasks, and of what changes an account's side: the
// APIs that it publishes, and those that it has access to.
type TaskList struct {
	APIs          []*taskset.API     `json:"apis"`
	Subscriptions []TaskSubscription `json:"subscriptions"`
}

// TaskSubscription is a subscription, what the account calls its tasks by, and
// how often it did.
type TaskSubscription struct {
	*taskset.Subscription
	// Names are the tasks by stage; a task is called as ALIAS--TASK, or
	// ALIAS--TASK:STAGE. Empty unless it is active.
	Names map[string][]string `json:"names"`
	// Parameters are what the tasks want of the account, by stage.
	Parameters map[string][]hearth.Parameter `json:"parameters,omitempty"`
	Used       taskset.Counts                `json:"used"`
	KeysUsed   map[string]taskset.Counts     `json:"keysUsed"`
}

// TaskSubscribers is the answer of /tasks/subscribers, and of what decides about
// them.
type TaskSubscribers struct {
	API         string             `json:"api"`
	Subscribers []TaskSubscription `json:"subscribers"`
}

// TaskSpec is the body of /tasks/create and /tasks/configure.
type TaskSpec struct {
	Description string           `json:"description,omitempty"` // of a new one
	Settings    taskset.Settings `json:"settings"`
}

// TaskKey is the answer of /tasks/keys/create. The secret is told once.
type TaskKey struct {
	taskset.Key
	Secret string `json:"secret"`
}

// taskRoutes are the paths that answer, taskActions those that change something.
func (h *Handler) taskRoutes(m map[string]answer) map[string]answer {
	m["/tasks"] = h.tasks
	m["/tasks/subscribers"] = h.subscribers
	return m
}

func (h *Handler) taskActions(m map[string]answer) map[string]answer {
	m["/tasks/create"] = h.taskSpec(func(ctx context.Context, a ask, s TaskSpec) error {
		_, err := h.Tasks.Create(ctx, a.account, a.q.Get("name"), s.Description, s.Settings)
		return err
	})
	m["/tasks/configure"] = h.taskSpec(func(ctx context.Context, a ask, s TaskSpec) error {
		_, err := h.Tasks.Configure(ctx, a.account, a.q.Get("name"), s.Settings)
		return err
	})
	m["/tasks/put"] = h.putTasks
	m["/tasks/point"] = h.pointStage
	m["/tasks/delete"] = func(ctx context.Context, a ask) (any, error) {
		if err := h.Tasks.Delete(ctx, a.account, a.q.Get("name")); err != nil {
			return nil, err
		}
		return h.tasks(ctx, a)
	}
	m["/tasks/approve"] = h.approve
	m["/tasks/deny"] = h.onSubscriber(func(ctx context.Context, a ask, name string, account hearth.Account) error {
		return h.Tasks.Deny(ctx, a.account, name, account)
	})
	m["/tasks/withdraw"] = h.onSubscriber(func(ctx context.Context, a ask, name string, account hearth.Account) error {
		_, err := h.Tasks.Withdraw(ctx, a.account, name, account)
		return err
	})
	m["/tasks/subscribe"] = h.subscribe
	m["/tasks/unsubscribe"] = func(ctx context.Context, a ask) (any, error) {
		if err := h.Tasks.Unsubscribe(ctx, a.account, a.q.Get("alias")); err != nil {
			return nil, err
		}
		return h.tasks(ctx, a)
	}
	m["/tasks/keys/create"] = func(ctx context.Context, a ask) (any, error) {
		k, secret, err := h.Tasks.MakeKey(ctx, a.account, a.q.Get("alias"), a.q.Get("name"))
		return TaskKey{k, secret}, err
	}
	m["/tasks/keys/delete"] = func(ctx context.Context, a ask) (any, error) {
		if err := h.Tasks.DeleteKey(ctx, a.account, a.q.Get("alias"), a.q.Get("id")); err != nil {
			return nil, err
		}
		return h.tasks(ctx, a)
	}
	return m
}

// strictly decodes a body that must be one document of known fields.
func strictly(body []byte, what string, v any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows it")
		}
	}
	if err != nil {
		return hearth.Errorf(hearth.InvalidParameter, "The body is no %s: %v.", what, err)
	}
	return nil
}

func (h *Handler) taskSubscriptions(list []*taskset.Subscription, names bool) []TaskSubscription {
	out := []TaskSubscription{}
	for _, r := range list {
		s := TaskSubscription{Subscription: r, Names: map[string][]string{}}
		if n := h.Tasks.Names(r.Account, r.Alias); names && n != nil {
			s.Names, s.Parameters = n, h.Tasks.Parameters(r.Account, r.Alias)
		}
		if s.Used, s.KeysUsed = h.Tasks.Used(r); s.KeysUsed == nil {
			s.KeysUsed = map[string]taskset.Counts{}
		}
		out = append(out, s)
	}
	return out
}

func (h *Handler) tasks(_ context.Context, a ask) (any, error) {
	apis, err := h.Tasks.APIs(a.account)
	if err != nil {
		return nil, err
	}
	subs, err := h.Tasks.Subscriptions(a.account)
	return TaskList{some(apis), h.taskSubscriptions(subs, true)}, err
}

func (h *Handler) subscribers(_ context.Context, a ask) (any, error) {
	name, err := needed(a, "name")
	if err != nil {
		return nil, err
	}
	list, err := h.Tasks.Subscribers(a.account, name)
	return TaskSubscribers{name, h.taskSubscriptions(list, false)}, err
}

func (h *Handler) taskSpec(do func(context.Context, ask, TaskSpec) error) answer {
	return func(ctx context.Context, a ask) (any, error) {
		var s TaskSpec
		if len(bytes.TrimSpace(a.body)) > 0 {
			if err := strictly(a.body, "specification of a task API", &s); err != nil {
				return nil, err
			}
		}
		if err := do(ctx, a, s); err != nil {
			return nil, err
		}
		return h.tasks(ctx, a)
	}
}

func (h *Handler) putTasks(ctx context.Context, a ask) (any, error) {
	var c taskset.TaskChange
	if err := strictly(a.body, "change of tasks", &c); err != nil {
		return nil, err
	}
	if _, err := h.Tasks.Put(ctx, a.account, a.q.Get("name"), a.q.Get("stage"), c); err != nil {
		return nil, err
	}
	return h.tasks(ctx, a)
}

func (h *Handler) pointStage(ctx context.Context, a ask) (any, error) {
	n, err := strconv.Atoi(a.q.Get("version"))
	if err != nil || n < 0 {
		return nil, hearth.Errorf(hearth.InvalidParameter, "version: %q is no number of a version, nor 0 to remove the stage.", a.q.Get("version"))
	}
	if _, err := h.Tasks.Point(ctx, a.account, a.q.Get("name"), a.q.Get("stage"), n); err != nil {
		return nil, err
	}
	return h.tasks(ctx, a)
}

func (h *Handler) onSubscriber(do func(context.Context, ask, string, hearth.Account) error) answer {
	return func(ctx context.Context, a ask) (any, error) {
		name, err := needed(a, "name")
		if err != nil {
			return nil, err
		}
		account, err := needed(a, "account")
		if err != nil {
			return nil, err
		}
		if err := do(ctx, a, name, hearth.Account(account)); err != nil {
			return nil, err
		}
		return h.subscribers(ctx, a)
	}
}

func (h *Handler) approve(ctx context.Context, a ask) (any, error) {
	var q *taskset.Quota
	if len(bytes.TrimSpace(a.body)) > 0 {
		if err := strictly(a.body, "quota", &q); err != nil {
			return nil, err
		}
	}
	return h.onSubscriber(func(ctx context.Context, a ask, name string, account hearth.Account) error {
		_, err := h.Tasks.Approve(ctx, a.account, name, account, q)
		return err
	})(ctx, a)
}

func (h *Handler) subscribe(ctx context.Context, a ask) (any, error) {
	var want taskset.TaskWish
	if len(bytes.TrimSpace(a.body)) > 0 {
		if err := oneDocument(a.body, &want); err != nil {
			return nil, err
		}
	}
	owner, err := needed(a, "owner")
	if err != nil {
		return nil, err
	}
	if _, err := h.Tasks.Subscribe(ctx, a.account, hearth.Account(owner), a.q.Get("name"), a.q.Get("alias"), want); err != nil {
		return nil, err
	}
	return h.tasks(ctx, a)
}

// Tasks tells the account's task APIs and subscriptions.
func (c *Client) Tasks(ctx context.Context) (TaskList, error) {
	return get[TaskList](ctx, c, "/tasks", nil)
}

// ChangeTasks does what the path below /tasks/ says, with what it is about in
// the query, and answers with what there is then. v is the body; nil is none.
func (c *Client) ChangeTasks(ctx context.Context, what string, q url.Values, v any) (TaskList, error) {
	return taskPost[TaskList](ctx, c, what, q, v)
}

func taskPost[T any](ctx context.Context, c *Client, what string, q url.Values, v any) (t T, err error) {
	var body []byte
	if v != nil {
		if body, err = json.Marshal(v); err != nil {
			return t, err
		}
	}
	return send[T](ctx, c, http.MethodPost, "/tasks/"+what, q, body)
}

// TaskSubscribers tells who has access to an API, or has asked for it.
func (c *Client) TaskSubscribers(ctx context.Context, name string) (TaskSubscribers, error) {
	return get[TaskSubscribers](ctx, c, "/tasks/subscribers", url.Values{"name": {name}})
}

// DecideTask has an account's access be decided: what is approve, deny or
// withdraw. The quota is of approve alone; nil is the API's.
func (c *Client) DecideTask(ctx context.Context, what, name string, account hearth.Account, q *taskset.Quota) (TaskSubscribers, error) {
	var v any
	if q != nil {
		v = q
	}
	return taskPost[TaskSubscribers](ctx, c, what, url.Values{"name": {name}, "account": {string(account)}}, v)
}

// MakeTaskKey makes an API key of a subscription.
func (c *Client) MakeTaskKey(ctx context.Context, alias, name string) (TaskKey, error) {
	return taskPost[TaskKey](ctx, c, "keys/create", url.Values{"alias": {alias}, "name": {name}}, nil)
}
