// Package wire is EventBridge as its clients see it: the operations of the API
// in the AWS JSON 1.1 protocol. What buses and rules do is package bus's.
package wire

import (
	"cmp"
	"context"
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/awsjson"
	"github.com/hearth-faas/hearth/bus"
	"github.com/hearth-faas/hearth/event/pattern"
	"github.com/hearth-faas/hearth/tags"
)

type api struct {
	buses *bus.Buses
}

// New serves the buses.
func New(buses *bus.Buses) *awsjson.Service {
	a := &api{buses}
	return &awsjson.Service{
		Name: "Amazon EventBridge", Target: "AWSEvents", Version: "1.1",
		Codes: map[hearth.Kind]awsjson.Code{
			hearth.LimitExceeded: {Name: "LimitExceededException"},
			hearth.Service:       {Name: "InternalException", Status: http.StatusInternalServerError},
		},
		Operations: map[string]awsjson.Operation{
			"PutEvents":             awsjson.Op(a.putEvents),
			"TestEventPattern":      awsjson.Op(a.testPattern),
			"PutRule":               awsjson.Op(a.putRule),
			"DescribeRule":          awsjson.Op(a.describeRule),
			"ListRules":             awsjson.Op(a.listRules),
			"EnableRule":            awsjson.Op(a.enableRule),
			"DisableRule":           awsjson.Op(a.disableRule),
			"DeleteRule":            awsjson.Op(a.deleteRule),
			"PutTargets":            awsjson.Op(a.putTargets),
			"RemoveTargets":         awsjson.Op(a.removeTargets),
			"ListTargetsByRule":     awsjson.Op(a.listTargets),
			"ListRuleNamesByTarget": awsjson.Op(a.listRuleNames),
			"CreateEventBus":        awsjson.Op(a.createBus),
			"UpdateEventBus":        awsjson.Op(a.updateBus),
			"DescribeEventBus":      awsjson.Op(a.describeBus),
			"ListEventBuses":        awsjson.Op(a.listBuses),
			"DeleteEventBus":        awsjson.Op(a.deleteBus),
			"TagResource":           awsjson.Op(a.tag),
			"UntagResource":         awsjson.Op(a.untag),
			"ListTagsForResource":   awsjson.Op(a.listTags),
		},
	}
}

func invalid(format string, args ...any) error {
	return hearth.Errorf(hearth.Validation, format, args...)
}

// page reads what a request says of the page that it wants.
func page(limit *int, token string) (max int, after string, _ error) {
	max = 100
	if limit != nil {
		if max = *limit; max < 1 || max > 100 {
			return 0, "", invalid("1 validation error detected: Value '%d' at 'limit' failed to satisfy constraint: Member must have value between 1 and 100", max)
		}
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return 0, "", invalid("Parameter NextToken is not valid.")
	}
	return max, string(b), nil
}

type nothing = awsjson.Nothing

type putEventsInput struct {
	Entries []struct {
		Time                                     *awsjson.Time
		Source, DetailType, Detail, EventBusName string
		Resources                                []string
	}
	EndpointId string
}

type putEventsOutput struct {
	FailedEntryCount int
	Entries          []putEventsEntry
}

type putEventsEntry struct {
	EventId      string `json:",omitempty"`
	ErrorCode    string `json:",omitempty"`
	ErrorMessage string `json:",omitempty"`
}

func (a *api) putEvents(ctx context.Context, r *awsjson.Request, in *putEventsInput) (*putEventsOutput, error) {
	if in.EndpointId != "" {
		return nil, invalid("Global endpoints are not built here: leave EndpointId out.")
	}
	entries := make([]bus.Entry, len(in.Entries))
	for i, e := range in.Entries {
		entries[i] = bus.Entry{Bus: e.EventBusName, Source: e.Source, DetailType: e.DetailType, Detail: e.Detail, Resources: e.Resources, Time: e.Time.Of()}
	}
	outcomes, err := a.buses.Put(ctx, r.Caller.Account, entries)
	if err != nil {
		return nil, err
	}
	out := &putEventsOutput{}
	for _, o := range outcomes {
		if o.Code != "" {
			out.FailedEntryCount++
		}
		out.Entries = append(out.Entries, putEventsEntry{o.ID, o.Code, o.Message})
	}
	return out, nil
}

type testPatternInput struct{ EventPattern, Event string }

type testPatternOutput struct{ Result bool }

func (a *api) testPattern(_ context.Context, _ *awsjson.Request, in *testPatternInput) (*testPatternOutput, error) {
	p, err := pattern.Compile(in.EventPattern)
	if err != nil {
		return nil, hearth.Errorf(hearth.InvalidPattern, "Event pattern is not valid. Reason: %s", err)
	}
	ok, err := p.Match([]byte(in.Event))
	if err != nil {
		return nil, invalid("Parameter Event is not valid. Reason: %s", err)
	}
	return &testPatternOutput{ok}, nil
}

type tag struct{ Key, Value string }

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

func tagList(m map[string]string) []tag {
	list := []tag{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, tag{k, m[k]})
	}
	return list
}

type tagInput struct {
	ResourceARN string
	Tags        []tag
	TagKeys     []string
}

// tagged changes the tags of what an ARN names: a rule or a bus.
func (a *api) tagged(ctx context.Context, r *awsjson.Request, arn string, change func(map[string]string) (map[string]string, error)) error {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[2] != "events" || hearth.Account(parts[4]) != r.Caller.Account {
		return invalid("Parameter ResourceARN is not valid: %.200s", arn)
	}
	changeTags := func(m *map[string]string) (err error) {
		*m, err = change(*m)
		if err != nil {
			return invalid("%s", err)
		}
		return nil
	}
	sort, name, _ := strings.Cut(parts[5], "/")
	var err error
	switch sort {
	case "event-bus":
		_, err = a.buses.ChangeBus(ctx, r.Caller.Account, name, func(b *bus.Bus) error { return changeTags(&b.Tags) })
	case "rule":
		on := bus.DefaultBus
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			on, name = name[:i], name[i+1:]
		}
		err = a.buses.Change(ctx, r.Caller.Account, on, name, func(r *bus.Rule) error { return changeTags(&r.Tags) })
	default:
		err = invalid("Parameter ResourceARN is not valid: %.200s", arn)
	}
	return err
}

func (a *api) tag(ctx context.Context, r *awsjson.Request, in *tagInput) (*nothing, error) {
	more, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	return nil, a.tagged(ctx, r, in.ResourceARN, func(m map[string]string) (map[string]string, error) { return tags.With(m, more) })
}

func (a *api) untag(ctx context.Context, r *awsjson.Request, in *tagInput) (*nothing, error) {
	return nil, a.tagged(ctx, r, in.ResourceARN, func(m map[string]string) (map[string]string, error) { return tags.Without(m, in.TagKeys), nil })
}

type tagsOutput struct{ Tags []tag }

func (a *api) listTags(ctx context.Context, r *awsjson.Request, in *tagInput) (*tagsOutput, error) {
	parts := strings.SplitN(in.ResourceARN, ":", 6)
	if len(parts) != 6 || parts[2] != "events" || hearth.Account(parts[4]) != r.Caller.Account {
		return nil, invalid("Parameter ResourceARN is not valid: %.200s", in.ResourceARN)
	}
	if name, ok := strings.CutPrefix(parts[5], "event-bus/"); ok {
		b, err := a.buses.Bus(ctx, r.Caller.Account, name)
		if err != nil {
			return nil, err
		}
		return &tagsOutput{tagList(b.Tags)}, nil
	}
	name, on := strings.TrimPrefix(parts[5], "rule/"), bus.DefaultBus
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		on, name = name[:i], name[i+1:]
	}
	rule, err := a.buses.Rule(ctx, r.Caller.Account, on, name)
	if err != nil {
		return nil, err
	}
	return &tagsOutput{tagList(rule.Tags)}, nil
}

type deadLetter struct {
	Arn string `json:",omitempty"`
}

func (d *deadLetter) arn() string {
	if d == nil {
		return ""
	}
	return d.Arn
}

func letterOf(arn string) *deadLetter {
	if arn == "" {
		return nil
	}
	return &deadLetter{arn}
}

type busInput struct {
	Name             string
	EventSourceName  string
	Description      *string
	KmsKeyIdentifier *string
	DeadLetterConfig *deadLetter
	Tags             []tag
	NamePrefix       string
	NextToken        string
	Limit            *int
}

type busOutput struct {
	Name             string        `json:",omitempty"`
	Arn              string        `json:",omitempty"`
	EventBusArn      string        `json:",omitempty"`
	Description      string        `json:",omitempty"`
	KmsKeyIdentifier string        `json:",omitempty"`
	DeadLetterConfig *deadLetter   `json:",omitempty"`
	CreationTime     *awsjson.Time `json:",omitempty"`
	LastModifiedTime *awsjson.Time `json:",omitempty"`
}

func described(b *bus.Bus) busOutput {
	return busOutput{
		Name: b.Name, Arn: b.ARN(), Description: b.Description, KmsKeyIdentifier: b.KMSKey, DeadLetterConfig: letterOf(b.DeadLetter),
		CreationTime: awsjson.Stamp(b.Created), LastModifiedTime: awsjson.Stamp(b.Modified),
	}
}

func (a *api) createBus(ctx context.Context, r *awsjson.Request, in *busInput) (*busOutput, error) {
	if in.EventSourceName != "" {
		return nil, invalid("Partner event sources are not built here: leave EventSourceName out.")
	}
	m, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	b, err := a.buses.CreateBus(ctx, bus.Bus{
		Account: r.Caller.Account, Name: in.Name, Description: text(in.Description), KMSKey: text(in.KmsKeyIdentifier), DeadLetter: in.DeadLetterConfig.arn(), Tags: m,
	})
	if err != nil {
		return nil, err
	}
	return &busOutput{EventBusArn: b.ARN(), Description: b.Description, KmsKeyIdentifier: b.KMSKey, DeadLetterConfig: letterOf(b.DeadLetter)}, nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (a *api) updateBus(ctx context.Context, r *awsjson.Request, in *busInput) (*busOutput, error) {
	name, err := a.buses.NameOf(r.Caller.Account, in.Name)
	if err != nil {
		return nil, err
	}
	b, err := a.buses.ChangeBus(ctx, r.Caller.Account, name, func(b *bus.Bus) error {
		if in.Description != nil {
			b.Description = *in.Description
		}
		if in.KmsKeyIdentifier != nil {
			b.KMSKey = *in.KmsKeyIdentifier
		}
		if in.DeadLetterConfig != nil {
			b.DeadLetter = in.DeadLetterConfig.Arn
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := described(b)
	out.CreationTime, out.LastModifiedTime = nil, nil
	return &out, nil
}

func (a *api) describeBus(ctx context.Context, r *awsjson.Request, in *busInput) (*busOutput, error) {
	name, err := a.buses.NameOf(r.Caller.Account, in.Name)
	if err != nil {
		return nil, err
	}
	b, err := a.buses.Bus(ctx, r.Caller.Account, name)
	if err != nil {
		return nil, err
	}
	out := described(b)
	return &out, nil
}

type busesOutput struct {
	EventBuses []busOutput
	NextToken  string `json:",omitempty"`
}

func (a *api) listBuses(ctx context.Context, r *awsjson.Request, in *busInput) (*busesOutput, error) {
	max, after, err := page(in.Limit, in.NextToken)
	if err != nil {
		return nil, err
	}
	list, last, err := a.buses.List(ctx, r.Caller.Account, in.NamePrefix, after, max)
	if err != nil {
		return nil, err
	}
	out := &busesOutput{EventBuses: []busOutput{}, NextToken: awsjson.Token(last)}
	for _, b := range list {
		one := described(b)
		one.DeadLetterConfig, one.KmsKeyIdentifier = nil, ""
		out.EventBuses = append(out.EventBuses, one)
	}
	return out, nil
}

func (a *api) deleteBus(ctx context.Context, r *awsjson.Request, in *busInput) (*nothing, error) {
	name, err := a.buses.NameOf(r.Caller.Account, cmp.Or(in.Name, "?"))
	if err != nil {
		return nil, err
	}
	return nil, a.buses.DeleteBus(ctx, r.Caller.Account, name)
}
