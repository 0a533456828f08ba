// Package wire is EventBridge Scheduler as its clients see it: schedules and
// their groups as REST and JSON. What schedules do is package schedule's.
package wire

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/awsjson"
	"github.com/hearth-faas/hearth/schedule"
	"github.com/hearth-faas/hearth/tags"
)

type api struct {
	schedules *schedule.Schedules
}

// New serves the schedules.
func New(schedules *schedule.Schedules) awsjson.Handler { return &api{schedules} }

// codes are how the service names errors.
var codes = map[hearth.Kind]awsjson.Code{
	hearth.Conflict:      {Name: "ConflictException", Status: http.StatusConflict},
	hearth.LimitExceeded: {Name: "ServiceQuotaExceededException", Status: http.StatusPaymentRequired},
	hearth.Service:       {Name: "InternalServerException", Status: http.StatusInternalServerError},
	awsjson.Malformed:    {Name: string(hearth.Validation), Status: http.StatusBadRequest},
}

// request is one request while it is served.
type request struct {
	*awsjson.Request
	name  string // the last part of the path
	query url.Values
}

func (r *request) account() hearth.Account { return r.Caller.Account }

// Serve implements awsjson.Handler.
func (a *api) Serve(w http.ResponseWriter, r *awsjson.Request) error {
	out, err := a.run(r)
	status, body := http.StatusOK, []byte("{}")
	if err == nil && out != nil {
		body, err = json.Marshal(out)
	}
	if err != nil {
		e, ok := errors.AsType[*hearth.Error](err)
		if !ok {
			e = &hearth.Error{Kind: hearth.Service, Message: "An internal error occurred."}
		}
		code, ok := codes[e.Kind]
		if !ok {
			code = awsjson.Code{Name: string(e.Kind), Status: e.Kind.Status()}
		}
		status = code.Status
		w.Header().Set("X-Amzn-ErrorType", code.Name)
		var merr error
		if body, merr = json.Marshal(struct{ Message string }{e.Message}); merr != nil {
			panic(merr) // a string
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that left needs no answer
	return err
}

func (a *api) run(raw *awsjson.Request) (any, error) {
	r := &request{Request: raw, query: raw.HTTP.URL.Query()}
	ctx := raw.HTTP.Context()
	sort, rest, _ := strings.Cut(strings.TrimPrefix(raw.HTTP.URL.EscapedPath(), "/"), "/")
	name, err := url.PathUnescape(rest)
	if err != nil {
		return nil, invalid("The path can't be read: %s", err)
	}
	r.name = name
	type operation func(context.Context, *request) (any, error)
	one := map[string]operation{}
	switch {
	case sort == "schedules" && name == "":
		one["GET"] = a.list
	case sort == "schedules":
		one = map[string]operation{"POST": a.create, "GET": a.get, "PUT": a.update, "DELETE": a.delete}
	case sort == "schedule-groups" && name == "":
		one["GET"] = a.listGroups
	case sort == "schedule-groups":
		one = map[string]operation{"POST": a.createGroup, "GET": a.getGroup, "DELETE": a.deleteGroup}
	case sort == "tags" && name != "":
		one = map[string]operation{"POST": a.tag, "GET": a.listTags, "DELETE": a.untag}
	}
	if run := one[raw.HTTP.Method]; run != nil {
		return run(ctx, r)
	}
	return nil, hearth.Errorf(hearth.UnknownOperation, "Amazon EventBridge Scheduler has no operation %s %s here", raw.HTTP.Method, raw.HTTP.URL.Path)
}

// OperationOf names the operation that a request is of, as the service's model
// does; "" is none.
func (a *api) OperationOf(r *http.Request) string {
	sort, name, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
	one := map[string]string{}
	switch {
	case sort == "schedules" && name == "":
		one["GET"] = "ListSchedules"
	case sort == "schedules":
		one = map[string]string{"POST": "CreateSchedule", "GET": "GetSchedule", "PUT": "UpdateSchedule", "DELETE": "DeleteSchedule"}
	case sort == "schedule-groups" && name == "":
		one["GET"] = "ListScheduleGroups"
	case sort == "schedule-groups":
		one = map[string]string{"POST": "CreateScheduleGroup", "GET": "GetScheduleGroup", "DELETE": "DeleteScheduleGroup"}
	case sort == "tags" && name != "":
		one = map[string]string{"POST": "TagResource", "GET": "ListTagsForResource", "DELETE": "UntagResource"}
	}
	return one[r.Method]
}

func invalid(format string, args ...any) error {
	return hearth.Errorf(hearth.Validation, format, args...)
}

// page reads what a request says of the page that it wants.
func (r *request) page() (max int, after string, _ error) {
	return r.Page("MaxResults", "NextToken", 100)
}

type tag struct{ Key, Value string }

type groupBody struct {
	ClientToken string
	Tags        []tag
}

func tagMap(list []tag) (map[string]string, error) {
	m := map[string]string{}
	for _, t := range list {
		if t.Key == "" || len(t.Key) > 128 || len(t.Value) > 256 {
			return nil, invalid("A tag's key has between 1 and 128 characters, its value at most 256.")
		}
		m[t.Key] = t.Value
	}
	return m, nil
}

type groupOutput struct {
	Arn                  string        `json:",omitempty"`
	ScheduleGroupArn     string        `json:",omitempty"`
	Name                 string        `json:",omitempty"`
	State                string        `json:",omitempty"`
	CreationDate         *awsjson.Time `json:",omitempty"`
	LastModificationDate *awsjson.Time `json:",omitempty"`
}

func groupOf(g *schedule.Group) groupOutput {
	return groupOutput{Arn: g.ARN(), Name: g.Name, State: "ACTIVE", CreationDate: awsjson.Stamp(g.Created), LastModificationDate: awsjson.Stamp(g.Modified)}
}

func (a *api) createGroup(ctx context.Context, r *request) (any, error) {
	var in groupBody
	if err := r.Read(&in); err != nil {
		return nil, err
	}
	m, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	g, err := a.schedules.CreateGroup(ctx, schedule.Group{Account: r.account(), Name: r.name, Tags: m, Token: in.ClientToken})
	if err != nil {
		return nil, err
	}
	return groupOutput{ScheduleGroupArn: g.ARN()}, nil
}

func (a *api) getGroup(ctx context.Context, r *request) (any, error) {
	g, err := a.schedules.Group(ctx, r.account(), r.name)
	if err != nil {
		return nil, err
	}
	return groupOf(g), nil
}

func (a *api) deleteGroup(ctx context.Context, r *request) (any, error) {
	return nil, a.schedules.DeleteGroup(ctx, r.account(), r.name)
}

type groupsOutput struct {
	ScheduleGroups []groupOutput
	NextToken      string `json:",omitempty"`
}

func (a *api) listGroups(ctx context.Context, r *request) (any, error) {
	max, after, err := r.page()
	if err != nil {
		return nil, err
	}
	list, last, err := a.schedules.Groups(ctx, r.account(), r.query.Get("NamePrefix"), after, max)
	if err != nil {
		return nil, err
	}
	out := groupsOutput{ScheduleGroups: []groupOutput{}, NextToken: awsjson.Token(last)}
	for _, g := range list {
		out.ScheduleGroups = append(out.ScheduleGroups, groupOf(g))
	}
	return out, nil
}

// group is the name of the group that a path's ARN names.
func (r *request) group() (string, error) {
	parts := strings.SplitN(r.name, ":", 6)
	if len(parts) == 6 && parts[2] == "scheduler" && hearth.Account(parts[4]) == r.account() {
		if name, ok := strings.CutPrefix(parts[5], "schedule-group/"); ok {
			return name, nil
		}
	}
	return "", invalid("ResourceArn must be that of a schedule group: %.200s", r.name)
}

func (a *api) tagged(ctx context.Context, r *request, change func(map[string]string) (map[string]string, error)) (any, error) {
	name, err := r.group()
	if err != nil {
		return nil, err
	}
	return nil, a.schedules.TagGroup(ctx, r.account(), name, func(m map[string]string) (map[string]string, error) {
		m, err := change(m)
		if err != nil {
			return nil, invalid("%s", err)
		}
		return m, nil
	})
}

func (a *api) tag(ctx context.Context, r *request) (any, error) {
	var in groupBody
	if err := r.Read(&in); err != nil {
		return nil, err
	}
	more, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	return a.tagged(ctx, r, func(m map[string]string) (map[string]string, error) { return tags.With(m, more) })
}

func (a *api) untag(ctx context.Context, r *request) (any, error) {
	return a.tagged(ctx, r, func(m map[string]string) (map[string]string, error) {
		return tags.Without(m, r.query["TagKeys"]), nil
	})
}

func (a *api) listTags(ctx context.Context, r *request) (any, error) {
	name, err := r.group()
	if err != nil {
		return nil, err
	}
	g, err := a.schedules.Group(ctx, r.account(), name)
	if err != nil {
		return nil, err
	}
	out := struct{ Tags []tag }{[]tag{}}
	for k, v := range g.Tags {
		out.Tags = append(out.Tags, tag{k, v})
	}
	return out, nil
}
