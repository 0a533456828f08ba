package wire

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/awsjson"
	"github.com/hearth-faas/hearth/bus"
	"github.com/hearth-faas/hearth/delivery"
)

type ruleInput struct {
	Name, Rule, ScheduleExpression, EventPattern, State, Description, RoleArn string
	EventBusName, NamePrefix, NextToken, TargetArn                            string
	Limit                                                                     *int
	Tags                                                                      []tag
	Targets                                                                   []target
	Ids                                                                       []string
	Force                                                                     bool
}

type ruleOutput struct {
	Name               string `json:",omitempty"`
	Arn                string `json:",omitempty"`
	EventPattern       string `json:",omitempty"`
	ScheduleExpression string `json:",omitempty"`
	State              string `json:",omitempty"`
	Description        string `json:",omitempty"`
	RoleArn            string `json:",omitempty"`
	EventBusName       string `json:",omitempty"`
	CreatedBy          string `json:",omitempty"`
}

func ruleOf(r *bus.Rule) ruleOutput {
	return ruleOutput{
		Name: r.Name, Arn: r.ARN(), EventPattern: r.Pattern, ScheduleExpression: r.Schedule, State: r.State,
		Description: r.Description, RoleArn: r.Role, EventBusName: r.Bus,
	}
}

type putRuleOutput struct{ RuleArn string }

func (a *api) putRule(ctx context.Context, r *awsjson.Request, in *ruleInput) (*putRuleOutput, error) {
	on, err := a.buses.NameOf(r.Caller.Account, in.EventBusName)
	if err != nil {
		return nil, err
	}
	m, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	rule, err := a.buses.PutRule(ctx, bus.Rule{
		Account: r.Caller.Account, Bus: on, Name: in.Name, Pattern: in.EventPattern, Schedule: in.ScheduleExpression,
		Description: in.Description, Role: in.RoleArn, State: in.State, Tags: m,
	})
	if err != nil {
		return nil, err
	}
	return &putRuleOutput{rule.ARN()}, nil
}

func (a *api) rule(ctx context.Context, r *awsjson.Request, on, name string) (*bus.Rule, error) {
	on, err := a.buses.NameOf(r.Caller.Account, on)
	if err != nil {
		return nil, err
	}
	return a.buses.Rule(ctx, r.Caller.Account, on, name)
}

func (a *api) describeRule(ctx context.Context, r *awsjson.Request, in *ruleInput) (*ruleOutput, error) {
	rule, err := a.rule(ctx, r, in.EventBusName, in.Name)
	if err != nil {
		return nil, err
	}
	out := ruleOf(rule)
	out.CreatedBy = string(rule.Account)
	return &out, nil
}

type rulesOutput struct {
	Rules     []ruleOutput
	NextToken string `json:",omitempty"`
}

func (a *api) listRules(ctx context.Context, r *awsjson.Request, in *ruleInput) (*rulesOutput, error) {
	on, err := a.buses.NameOf(r.Caller.Account, in.EventBusName)
	if err != nil {
		return nil, err
	}
	max, after, err := page(in.Limit, in.NextToken)
	if err != nil {
		return nil, err
	}
	list, last, err := a.buses.Rules(ctx, r.Caller.Account, on, in.NamePrefix, after, max, nil)
	if err != nil {
		return nil, err
	}
	out := &rulesOutput{Rules: []ruleOutput{}, NextToken: awsjson.Token(last)}
	for _, rule := range list {
		out.Rules = append(out.Rules, ruleOf(rule))
	}
	return out, nil
}

type ruleNamesOutput struct {
	RuleNames []string
	NextToken string `json:",omitempty"`
}

func (a *api) listRuleNames(ctx context.Context, r *awsjson.Request, in *ruleInput) (*ruleNamesOutput, error) {
	on, err := a.buses.NameOf(r.Caller.Account, in.EventBusName)
	if err != nil {
		return nil, err
	}
	max, after, err := page(in.Limit, in.NextToken)
	if err != nil {
		return nil, err
	}
	list, last, err := a.buses.Rules(ctx, r.Caller.Account, on, "", after, max, func(rule *bus.Rule) bool {
		return slices.ContainsFunc(rule.Targets, func(t bus.Target) bool { return t.ARN == in.TargetArn })
	})
	if err != nil {
		return nil, err
	}
	out := &ruleNamesOutput{RuleNames: []string{}, NextToken: awsjson.Token(last)}
	for _, rule := range list {
		out.RuleNames = append(out.RuleNames, rule.Name)
	}
	return out, nil
}

func (a *api) setState(ctx context.Context, r *awsjson.Request, in *ruleInput, state string) (*nothing, error) {
	on, err := a.buses.NameOf(r.Caller.Account, in.EventBusName)
	if err != nil {
		return nil, err
	}
	return nil, a.buses.Change(ctx, r.Caller.Account, on, in.Name, func(rule *bus.Rule) error {
		rule.State = state
		return nil
	})
}

func (a *api) enableRule(ctx context.Context, r *awsjson.Request, in *ruleInput) (*nothing, error) {
	return a.setState(ctx, r, in, bus.Enabled)
}

func (a *api) disableRule(ctx context.Context, r *awsjson.Request, in *ruleInput) (*nothing, error) {
	return a.setState(ctx, r, in, bus.Disabled)
}

func (a *api) deleteRule(ctx context.Context, r *awsjson.Request, in *ruleInput) (*nothing, error) {
	on, err := a.buses.NameOf(r.Caller.Account, in.EventBusName)
	if err != nil {
		return nil, err
	}
	return nil, a.buses.DeleteRule(ctx, r.Caller.Account, on, in.Name)
}

// target is a target on the wire. What Hearth has no use for is read so that it
// can be refused.
type target struct {
	Id               string
	Arn              string
	RoleArn          string       `json:",omitempty"`
	Input            string       `json:",omitempty"`
	InputPath        string       `json:",omitempty"`
	InputTransformer *transformer `json:",omitempty"`
	SqsParameters    *struct {
		MessageGroupId string `json:",omitempty"`
	} `json:",omitempty"`
	DeadLetterConfig *deadLetter `json:",omitempty"`
	RetryPolicy      *retry      `json:",omitempty"`
}

type transformer struct {
	InputPathsMap map[string]string `json:",omitempty"`
	InputTemplate string
}

type retry struct {
	MaximumRetryAttempts     *int `json:",omitempty"`
	MaximumEventAgeInSeconds *int `json:",omitempty"`
}

func (t *target) target() bus.Target {
	out := bus.Target{ID: t.Id, ARN: t.Arn, Role: t.RoleArn, Input: t.Input, InputPath: t.InputPath, DeadLetter: t.DeadLetterConfig.arn()}
	if x := t.InputTransformer; x != nil {
		out.Transformer = &bus.Transformer{Paths: x.InputPathsMap, Template: x.InputTemplate}
	}
	if t.SqsParameters != nil {
		out.GroupID = t.SqsParameters.MessageGroupId
	}
	if r := t.RetryPolicy; r != nil {
		p := delivery.DefaultPolicy
		if r.MaximumRetryAttempts != nil {
			p.MaxRetries = *r.MaximumRetryAttempts
		}
		if r.MaximumEventAgeInSeconds != nil {
			p.MaxAge = time.Duration(*r.MaximumEventAgeInSeconds) * time.Second
		}
		out.Retry = &p
	}
	return out
}

func targetOf(t *bus.Target) target {
	out := target{Id: t.ID, Arn: t.ARN, RoleArn: t.Role, Input: t.Input, InputPath: t.InputPath, DeadLetterConfig: letterOf(t.DeadLetter)}
	if x := t.Transformer; x != nil {
		out.InputTransformer = &transformer{x.Paths, x.Template}
	}
	if t.GroupID != "" {
		out.SqsParameters = &struct {
			MessageGroupId string `json:",omitempty"`
		}{t.GroupID}
	}
	if t.Retry != nil {
		out.RetryPolicy = &retry{new(t.Retry.MaxRetries), new(int(t.Retry.MaxAge / time.Second))}
	}
	return out
}

type failedTargets struct {
	FailedEntryCount int
	FailedEntries    []failedTarget
}

type failedTarget struct{ TargetId, ErrorCode, ErrorMessage string }

func (a *api) putTargets(ctx context.Context, r *awsjson.Request, in *ruleInput) (*failedTargets, error) {
	if len(in.Targets) == 0 || len(in.Targets) > 100 {
		return nil, invalid("1 validation error detected: Value at 'targets' failed to satisfy constraint: Member must have between 1 and 100 items")
	}
	on, err := a.buses.NameOf(r.Caller.Account, in.EventBusName)
	if err != nil {
		return nil, err
	}
	targets := make([]bus.Target, len(in.Targets))
	for i := range in.Targets {
		targets[i] = in.Targets[i].target()
	}
	wrong, err := a.buses.PutTargets(ctx, r.Caller.Account, on, in.Rule, targets)
	if err != nil {
		return nil, err
	}
	out := &failedTargets{FailedEntries: []failedTarget{}}
	for i, err := range wrong {
		if err == nil {
			continue
		}
		if len(wrong) == 1 { // as the service does: one request, one target, one error
			return nil, err
		}
		message := err.Error()
		if e, ok := errors.AsType[*hearth.Error](err); ok {
			message = e.Message
		}
		out.FailedEntries = append(out.FailedEntries, failedTarget{targets[i].ID, string(hearth.KindOf(err)), message})
	}
	out.FailedEntryCount = len(out.FailedEntries)
	return out, nil
}

func (a *api) removeTargets(ctx context.Context, r *awsjson.Request, in *ruleInput) (*failedTargets, error) {
	on, err := a.buses.NameOf(r.Caller.Account, in.EventBusName)
	if err != nil {
		return nil, err
	}
	out := &failedTargets{FailedEntries: []failedTarget{}}
	err = a.buses.Change(ctx, r.Caller.Account, on, in.Rule, func(rule *bus.Rule) error {
		out.FailedEntries = out.FailedEntries[:0]
		targets := slices.Clone(rule.Targets)
		for _, id := range in.Ids {
			is := func(t bus.Target) bool { return t.ID == id }
			if !slices.ContainsFunc(targets, is) {
				out.FailedEntries = append(out.FailedEntries, failedTarget{id, string(hearth.NotFound), "Rule " + rule.Name + " does not have a target with the Id " + id + "."})
				continue
			}
			targets = slices.DeleteFunc(targets, is)
		}
		rule.Targets = targets
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.FailedEntryCount = len(out.FailedEntries)
	return out, nil
}

type targetsOutput struct {
	Targets   []target
	NextToken string `json:",omitempty"`
}

func (a *api) listTargets(ctx context.Context, r *awsjson.Request, in *ruleInput) (*targetsOutput, error) {
	max, after, err := page(in.Limit, in.NextToken)
	if err != nil {
		return nil, err
	}
	rule, err := a.rule(ctx, r, in.EventBusName, in.Rule)
	if err != nil {
		return nil, err
	}
	out := &targetsOutput{Targets: []target{}}
	for i := range rule.Targets {
		t := &rule.Targets[i]
		if t.ID <= after && after != "" {
			continue
		}
		if len(out.Targets) == max {
			out.NextToken = awsjson.Token(out.Targets[max-1].Id)
			break
		}
		out.Targets = append(out.Targets, targetOf(t))
	}
	return out, nil
}
