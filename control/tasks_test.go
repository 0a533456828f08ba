package control

import (
	"context"
	"net/url"
	"testing"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/taskset"
)

// taskParts is a Tasks.
type taskParts struct{ *parts }

var (
	oneAPI = &taskset.API{Format: 1, ID: "i", Owner: ours, Name: "img", Description: "d",
		Settings: taskset.Settings{Open: true, Accounts: []hearth.Account{theirs}, Key: true, Quota: taskset.Quota{Rate: 1, Burst: 2, Concurrency: 3, Day: 4, Month: 5, CPUSeconds: 6},
			KeyQuota: taskset.Quota{Day: 1}, Markup: 0.5, Reaches: []string{"x.example"}, Stage: "beta"}, Except: []hearth.Account{theirs},
		Versions: []taskset.Version{{Number: 1, Description: "d", Tasks: []taskset.Task{{Name: "t", Function: "f", Version: "1"}}, Parameters: []hearth.Parameter{{Name: "KEY", Description: "d", Secret: true, Required: true}}, Created: noon}},
		Stages:   map[string]int{"beta": 1}, Last: 1, Created: noon, Updated: noon}
	oneSubscription = &taskset.Subscription{Format: 1, ID: "s", Account: ours, Alias: "img", Owner: theirs, API: "img", APIID: "i", Status: taskset.Active,
		Quota: &taskset.Quota{Day: 1}, Network: &hearth.NetworkPolicy{Allow: []string{"x.example"}}, Keys: []taskset.Key{{ID: "key-1", Name: "n", Created: noon}}, Set: []string{"KEY"}, Created: noon, Updated: noon}
)

func (p taskParts) APIs(hearth.Account) ([]*taskset.API, error) { return []*taskset.API{oneAPI}, p.err }

func (p taskParts) Subscriptions(hearth.Account) ([]*taskset.Subscription, error) {
	return []*taskset.Subscription{oneSubscription}, p.err
}

func (p taskParts) Subscribers(hearth.Account, string) ([]*taskset.Subscription, error) {
	return []*taskset.Subscription{oneSubscription}, p.err
}

func (p taskParts) Names(hearth.Account, string) map[string][]string {
	return map[string][]string{"prod": {"t"}}
}

func (p taskParts) Used(*taskset.Subscription) (taskset.Counts, map[string]taskset.Counts) {
	return taskset.Counts{Day: "2026-01-02", DayCalls: 3}, nil
}

func (p taskParts) Create(context.Context, hearth.Account, string, string, taskset.Settings) (*taskset.API, error) {
	return oneAPI, p.err
}

func (p taskParts) Configure(context.Context, hearth.Account, string, taskset.Settings) (*taskset.API, error) {
	return oneAPI, p.err
}

func (p taskParts) Parameters(hearth.Account, string) map[string][]hearth.Parameter {
	return map[string][]hearth.Parameter{"prod": {{Name: "KEY", Description: "d", Secret: true, Required: true, Default: "x"}}}
}

func (p taskParts) Put(context.Context, hearth.Account, string, string, taskset.TaskChange) (*taskset.API, error) {
	return oneAPI, p.err
}

func (p taskParts) Point(_ context.Context, _ hearth.Account, _, _ string, number int) (*taskset.API, error) {
	return oneAPI, p.err
}

func (p taskParts) Delete(context.Context, hearth.Account, string) error { return p.err }

func (p taskParts) Approve(context.Context, hearth.Account, string, hearth.Account, *taskset.Quota) (*taskset.API, error) {
	return oneAPI, p.err
}

func (p taskParts) Deny(context.Context, hearth.Account, string, hearth.Account) error { return p.err }

func (p taskParts) Withdraw(context.Context, hearth.Account, string, hearth.Account) (*taskset.API, error) {
	return oneAPI, p.err
}

func (p taskParts) Subscribe(context.Context, hearth.Account, hearth.Account, string, string, taskset.TaskWish) (*taskset.Subscription, error) {
	return oneSubscription, p.err
}

func (p taskParts) Unsubscribe(context.Context, hearth.Account, string) error { return p.err }

func (p taskParts) MakeKey(context.Context, hearth.Account, string, string) (taskset.Key, string, error) {
	return taskset.Key{ID: "key-1", Created: noon}, "hk-secret", p.err
}

func (p taskParts) DeleteKey(context.Context, hearth.Account, string, string) error { return p.err }

func TestTaskAPIsAreChangedAndAskedFor(t *testing.T) {
	c := serve(t, &parts{}, root, nil)
	list, err := c.ChangeTasks(t.Context(), "put", url.Values{"name": {"img"}}, taskset.TaskChange{Set: []taskset.Task{{Name: "t", Function: "f"}}, Remove: []string{"u"}})
	if err != nil || len(list.APIs) != 1 || list.APIs[0].Quota.Burst != 2 || list.APIs[0].Versions[0].Tasks[0].Function != "f" || list.Subscriptions[0].Names["prod"][0] != "t" || list.Subscriptions[0].Used.DayCalls != 3 {
		t.Errorf("%+v, %v", list, err)
	}
	if k, err := c.MakeTaskKey(t.Context(), "img", ""); err != nil || k.Secret != "hk-secret" || k.ID != "key-1" {
		t.Errorf("%+v, %v", k, err)
	}
	if s, err := c.DecideTask(t.Context(), "approve", "img", theirs, &taskset.Quota{Day: 3}); err != nil || s.API != "img" || len(s.Subscribers) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	for what, body := range map[string]any{"create": map[string]any{"setting": 1}, "put": map[string]any{"tasks": 1}, "approve": map[string]any{"days": 1}, "subscribe": map[string]any{"allowed": 1}} {
		if _, err := c.ChangeTasks(t.Context(), what, url.Values{"name": {"img"}, "account": {string(theirs)}, "owner": {string(theirs)}}, body); err == nil {
			t.Errorf("%s takes an unknown field", what)
		}
	}
	if _, err := c.ChangeTasks(t.Context(), "point", url.Values{"name": {"img"}, "stage": {"prod"}, "version": {"last"}}, nil); err == nil {
		t.Error("a version that is no number is taken")
	}
}
