package wire

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"github.com/hearth-faas/hearth/awsjson"
	"github.com/hearth-faas/hearth/delivery"
	"github.com/hearth-faas/hearth/schedule"
)

// body is a schedule on the wire, in both directions.
type body struct {
	Arn                        string `json:",omitempty"`
	Name                       string `json:",omitempty"`
	GroupName                  string `json:",omitempty"`
	ClientToken                string `json:",omitempty"`
	Description                string `json:",omitempty"`
	ScheduleExpression         string
	ScheduleExpressionTimezone string        `json:",omitempty"`
	StartDate                  *awsjson.Time `json:",omitempty"`
	EndDate                    *awsjson.Time `json:",omitempty"`
	FlexibleTimeWindow         *window
	State                      string        `json:",omitempty"`
	ActionAfterCompletion      string        `json:",omitempty"`
	KmsKeyArn                  string        `json:",omitempty"`
	CreationDate               *awsjson.Time `json:",omitempty"`
	LastModificationDate       *awsjson.Time `json:",omitempty"`
	Target                     *target
}

type window struct {
	Mode                   string
	MaximumWindowInMinutes *int `json:",omitempty"`
}

type target struct {
	Arn              string
	RoleArn          string
	Input            string      `json:",omitempty"`
	DeadLetterConfig *deadLetter `json:",omitempty"`
	RetryPolicy      *retry      `json:",omitempty"`
	SqsParameters    *struct {
		MessageGroupId string `json:",omitempty"`
	} `json:",omitempty"`
	EventBridgeParameters *struct{ DetailType, Source string } `json:",omitempty"`

	// What targets have that Hearth does not deliver to.
	EcsParameters               json.RawMessage `json:",omitempty"`
	KinesisParameters           json.RawMessage `json:",omitempty"`
	SageMakerPipelineParameters json.RawMessage `json:",omitempty"`
}

type deadLetter struct {
	Arn string `json:",omitempty"`
}

type retry struct {
	MaximumEventAgeInSeconds *int `json:",omitempty"`
	MaximumRetryAttempts     *int `json:",omitempty"`
}

// schedule reads a schedule from a request.
func (r *request) schedule() (n schedule.Schedule, _ error) {
	var in body
	if err := r.Read(&in); err != nil {
		return n, err
	}
	n = schedule.Schedule{
		Account: r.account(), Group: cmp.Or(in.GroupName, schedule.DefaultGroup), Name: r.name, Description: in.Description,
		Expression: in.ScheduleExpression, Timezone: in.ScheduleExpressionTimezone, Start: in.StartDate.Of(), End: in.EndDate.Of(),
		KMSKey: in.KmsKeyArn, Token: in.ClientToken,
	}
	switch in.State {
	case "", "ENABLED":
	case "DISABLED":
		n.Disabled = true
	default:
		return n, invalid("State must be ENABLED or DISABLED, not %.40s.", in.State)
	}
	switch in.ActionAfterCompletion {
	case "", "NONE":
	case "DELETE":
		n.Delete = true
	default:
		return n, invalid("ActionAfterCompletion must be NONE or DELETE, not %.40s.", in.ActionAfterCompletion)
	}
	switch w := in.FlexibleTimeWindow; {
	case w == nil:
		return n, invalid("FlexibleTimeWindow is required: {\"Mode\": \"OFF\"} is none.")
	case w.Mode == "OFF" && w.MaximumWindowInMinutes == nil:
	case w.Mode == "FLEXIBLE" && w.MaximumWindowInMinutes != nil && *w.MaximumWindowInMinutes >= 1 && *w.MaximumWindowInMinutes <= 1440:
		n.Flexible = time.Duration(*w.MaximumWindowInMinutes) * time.Minute
	default:
		return n, invalid("FlexibleTimeWindow: Mode must be OFF, or FLEXIBLE with MaximumWindowInMinutes between 1 and 1440.")
	}
	t := in.Target
	if t == nil {
		return n, invalid("Target is required.")
	}
	if t.EcsParameters != nil || t.KinesisParameters != nil || t.SageMakerPipelineParameters != nil {
		return n, invalid("Targets here are Lambda functions, SQS queues and event buses: EcsParameters, KinesisParameters and SageMakerPipelineParameters are of none of them.")
	}
	n.Target = schedule.Target{ARN: t.Arn, Role: t.RoleArn, Input: t.Input, Retry: delivery.DefaultPolicy}
	if t.DeadLetterConfig != nil {
		n.Target.Retry.DeadLetter = t.DeadLetterConfig.Arn
	}
	if p := t.RetryPolicy; p != nil {
		if p.MaximumEventAgeInSeconds != nil {
			n.Target.Retry.MaxAge = time.Duration(*p.MaximumEventAgeInSeconds) * time.Second
			if n.Target.Retry.MaxAge == 0 {
				return n, invalid("MaximumEventAgeInSeconds must be between 60 and 86400.")
			}
		}
		if p.MaximumRetryAttempts != nil {
			n.Target.Retry.MaxRetries = *p.MaximumRetryAttempts
		}
	}
	if t.SqsParameters != nil {
		n.Target.GroupID = t.SqsParameters.MessageGroupId
	}
	if e := t.EventBridgeParameters; e != nil {
		n.Target.Bus = &schedule.BusEvent{Source: e.Source, DetailType: e.DetailType}
	}
	return n, nil
}

// bodyOf is the inverse.
func bodyOf(n *schedule.Schedule) *body {
	out := &body{
		Arn: n.ARN(), Name: n.Name, GroupName: n.Group, Description: n.Description, ScheduleExpression: n.Expression,
		ScheduleExpressionTimezone: cmp.Or(n.Timezone, "UTC"), StartDate: awsjson.Stamp(n.Start), EndDate: awsjson.Stamp(n.End),
		FlexibleTimeWindow: &window{Mode: "OFF"}, State: "ENABLED", ActionAfterCompletion: "NONE", KmsKeyArn: n.KMSKey,
		CreationDate: awsjson.Stamp(n.Created), LastModificationDate: awsjson.Stamp(n.Modified),
		Target: &target{
			Arn: n.Target.ARN, RoleArn: n.Target.Role, Input: n.Target.Input,
			RetryPolicy: &retry{new(int(n.Target.Retry.MaxAge / time.Second)), new(n.Target.Retry.MaxRetries)},
		},
	}
	if n.Flexible > 0 {
		out.FlexibleTimeWindow = &window{"FLEXIBLE", new(int(n.Flexible / time.Minute))}
	}
	if n.Disabled {
		out.State = "DISABLED"
	}
	if n.Delete {
		out.ActionAfterCompletion = "DELETE"
	}
	if arn := n.Target.Retry.DeadLetter; arn != "" {
		out.Target.DeadLetterConfig = &deadLetter{arn}
	}
	if g := n.Target.GroupID; g != "" {
		out.Target.SqsParameters = &struct {
			MessageGroupId string `json:",omitempty"`
		}{g}
	}
	if b := n.Target.Bus; b != nil {
		out.Target.EventBridgeParameters = &struct{ DetailType, Source string }{b.DetailType, b.Source}
	}
	return out
}

type created struct{ ScheduleArn string }

func (a *api) create(ctx context.Context, r *request) (any, error) {
	n, err := r.schedule()
	if err != nil {
		return nil, err
	}
	made, err := a.schedules.Create(ctx, n)
	if err != nil {
		return nil, err
	}
	return created{made.ARN()}, nil
}

func (a *api) update(ctx context.Context, r *request) (any, error) {
	n, err := r.schedule()
	if err != nil {
		return nil, err
	}
	made, err := a.schedules.Update(ctx, n)
	if err != nil {
		return nil, err
	}
	return created{made.ARN()}, nil
}

func (r *request) groupName() string { return cmp.Or(r.query.Get("groupName"), schedule.DefaultGroup) }

func (a *api) get(ctx context.Context, r *request) (any, error) {
	n, err := a.schedules.Get(ctx, r.account(), r.groupName(), r.name)
	if err != nil {
		return nil, err
	}
	return bodyOf(n), nil
}

func (a *api) delete(ctx context.Context, r *request) (any, error) {
	return nil, a.schedules.Delete(ctx, r.account(), r.groupName(), r.name)
}

type summary struct {
	Arn, GroupName, Name, State        string
	CreationDate, LastModificationDate *awsjson.Time
	Target                             struct{ Arn string }
}

type listOutput struct {
	Schedules []summary
	NextToken string `json:",omitempty"`
}

func (a *api) list(ctx context.Context, r *request) (any, error) {
	max, after, err := r.page()
	if err != nil {
		return nil, err
	}
	state := r.query.Get("State")
	list, last, err := a.schedules.List(ctx, r.account(), r.query.Get("ScheduleGroup"), r.query.Get("NamePrefix"), after, max, func(n *schedule.Schedule) bool {
		return state == "" || (state == "DISABLED") == n.Disabled
	})
	if err != nil {
		return nil, err
	}
	out := listOutput{Schedules: []summary{}, NextToken: awsjson.Token(last)}
	for _, n := range list {
		b := bodyOf(n)
		s := summary{Arn: b.Arn, GroupName: b.GroupName, Name: b.Name, State: b.State, CreationDate: b.CreationDate, LastModificationDate: b.LastModificationDate}
		s.Target.Arn = n.Target.ARN
		out.Schedules = append(out.Schedules, s)
	}
	return out, nil
}
