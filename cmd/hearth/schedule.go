package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"
	"github.com/spf13/cobra"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/awsjson"
	"github.com/hearth-faas/hearth/schedule"
)

// shownSchedule is a schedule as hearth schedule --json prints it.
type shownSchedule struct {
	Name       string      `json:"name"`
	Group      string      `json:"group"`
	Expression string      `json:"expression"`
	Timezone   string      `json:"timezone"`
	State      string      `json:"state"`
	Target     string      `json:"target"`
	Next       []time.Time `json:"next"` // the next times; empty if there are none
}

// wireSchedule is what of a schedule on the wire is of use here.
type wireSchedule struct {
	Name                       string `json:",omitempty"`
	GroupName                  string `json:",omitempty"`
	ScheduleExpression         string
	ScheduleExpressionTimezone string        `json:",omitempty"`
	State                      string        `json:",omitempty"`
	StartDate                  *awsjson.Time `json:",omitempty"`
	EndDate                    *awsjson.Time `json:",omitempty"`
	CreationDate               *awsjson.Time `json:",omitempty"`
	ActionAfterCompletion      string        `json:",omitempty"`
	FlexibleTimeWindow         struct{ Mode string }
	Target                     struct {
		Arn     string
		RoleArn string
		Input   string `json:",omitempty"`
	}
}

// scheduleWish is what a user asks of hearth schedule add.
type scheduleWish struct {
	name, input, timezone, role string
	keep                        bool
}

func (a *app) scheduleCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schedule",
		Short: "Show, add or remove schedules, which invoke functions at times",
		Long: `Show the schedules that there are, with the next times at which they are due.

They are those of EventBridge Scheduler, whose API (aws scheduler) has more:
groups, time windows, start and end, retries, other targets than functions.`,
		Example: `  hearth schedule add report 'cron(0 9 ? * MON-FRI *)' --timezone Europe/Berlin
  hearth schedule add ping 'rate(5 minutes)' --input '{"a":1}'
  hearth schedule
  hearth schedule rm ping`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			return a.listSchedules(cmd.Context(), r)
		},
	}
	var w scheduleWish
	add := &cobra.Command{
		Use:   "add FUNCTION[:QUALIFIER] EXPRESSION",
		Short: "Invoke a function at rate(5 minutes), cron(0 10 * * ? *) or at(2030-01-01T00:00:00)",
		Long: `Invoke a function at times: rate(5 minutes), cron(0 10 * * ? *), whose fields
are minutes, hours, day of month, month, day of week and year, or once, at
at(2030-01-01T00:00:00), after which the schedule is deleted.`,
		Args:              exactly(2),
		ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if w.input != "" && !json.Valid([]byte(w.input)) {
				return usage("--input is no JSON", "Quote it for the shell: --input '{\"a\":1}'")
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			return a.addSchedule(cmd.Context(), r, args[0], args[1], w)
		},
	}
	f := add.Flags()
	f.StringVar(&w.name, "name", "", "`name` of the schedule (default: that of the function)")
	f.StringVar(&w.input, "input", "", "`JSON` that the function gets (default: an event that tells the time)")
	f.StringVar(&w.timezone, "timezone", "UTC", "time `zone` of cron and at, such as Europe/Berlin")
	f.StringVar(&w.role, "role", "", "`ARN` of the role that invokes (default: one that need not exist)")
	f.BoolVar(&w.keep, "keep", false, "keep a schedule whose last time is past")
	rm := &cobra.Command{
		Use:   "rm NAME...",
		Short: "Remove schedules",
		Args:  between(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, "removed", func(r *remote, name string) error {
				group, name := splitSchedule(name)
				err := r.scheduler(cmd.Context(), "DELETE", "/schedules/"+url.PathEscape(name), url.Values{"groupName": {group}}, nil, nil)
				if err != nil {
					return r.scheduleFailure("can't remove "+name, err)
				}
				return nil
			})
		},
	}
	cmd.AddCommand(add, rm)
	return cmd
}

// splitSchedule reads GROUP/NAME, or NAME of the default group.
func splitSchedule(s string) (group, name string) {
	if group, name, ok := strings.Cut(s, "/"); ok {
		return group, name
	}
	return schedule.DefaultGroup, s
}

func (a *app) addSchedule(ctx context.Context, r *remote, function, expression string, w scheduleWish) error {
	account, err := r.account(ctx)
	if err != nil {
		return r.failure("can't tell whose credentials these are", err)
	}
	bare, _, _ := strings.Cut(function, ":")
	name := cmp.Or(w.name, bare)
	in := wireSchedule{ScheduleExpression: expression, ScheduleExpressionTimezone: w.timezone, ActionAfterCompletion: "DELETE"}
	if w.keep {
		in.ActionAfterCompletion = "NONE"
	}
	in.FlexibleTimeWindow.Mode = "OFF"
	in.Target.Arn = "arn:aws:lambda:" + r.region + ":" + string(account) + ":function:" + function
	in.Target.RoleArn = cmp.Or(w.role, "arn:aws:iam::"+string(account)+":role/hearth-schedule")
	in.Target.Input = w.input
	if err := r.scheduler(ctx, "POST", "/schedules/"+url.PathEscape(name), nil, in, nil); err != nil {
		return r.scheduleFailure("can't add the schedule "+name, err)
	}
	var made wireSchedule
	if err := r.scheduler(ctx, "GET", "/schedules/"+url.PathEscape(name), nil, nil, &made); err != nil {
		return r.scheduleFailure("the schedule "+name+" is added, but can't be shown", err)
	}
	s := made.shown(time.Now(), 3)
	if a.json {
		return a.printJSON(s)
	}
	fmt.Fprintf(a.out, "%s added  %s\n", a.bold(name), s.when())
	return nil
}

// shown is the schedule with at most n of its next times.
func (w *wireSchedule) shown(now time.Time, n int) shownSchedule {
	out := shownSchedule{
		Name: w.Name, Group: w.GroupName, Expression: w.ScheduleExpression, Timezone: w.ScheduleExpressionTimezone, State: w.State, Target: w.Target.Arn,
		Next: []time.Time{},
	}
	s := schedule.Schedule{
		Expression: w.ScheduleExpression, Timezone: w.ScheduleExpressionTimezone, Start: w.StartDate.Of(), End: w.EndDate.Of(),
		Created: w.CreationDate.Of(), Disabled: w.State == "DISABLED",
	}
	if next, err := s.After(now); err == nil {
		s.Next = next
		out.Next = append(out.Next, s.Upcoming(n)...)
	}
	return out
}

// when is the next time in words.
func (s *shownSchedule) when() string {
	if len(s.Next) == 0 {
		return "not due any more"
	}
	text := "next at " + s.Next[0].Format(time.RFC3339)
	if zone, err := time.LoadLocation(s.Timezone); err == nil {
		text = "next at " + s.Next[0].In(zone).Format("2006-01-02 15:04:05 MST")
	}
	return text
}

func (a *app) listSchedules(ctx context.Context, r *remote) error {
	list := []shownSchedule{}
	q := url.Values{}
	for {
		var page struct {
			Schedules []struct{ Name, GroupName string }
			NextToken string
		}
		if err := r.scheduler(ctx, "GET", "/schedules", q, nil, &page); err != nil {
			return r.scheduleFailure("can't list the schedules", err)
		}
		for _, one := range page.Schedules {
			var w wireSchedule
			err := r.scheduler(ctx, "GET", "/schedules/"+url.PathEscape(one.Name), url.Values{"groupName": {one.GroupName}}, nil, &w)
			if errorName(err) == string(hearth.NotFound) {
				continue // it was deleted meanwhile
			}
			if err != nil {
				return r.scheduleFailure("can't look at the schedule "+one.Name, err)
			}
			list = append(list, w.shown(time.Now(), 3))
		}
		if page.NextToken == "" {
			break
		}
		q.Set("NextToken", page.NextToken)
	}
	if a.json {
		return a.printJSON(list)
	}
	if len(list) == 0 {
		a.say("There are no schedules. Add one with: hearth schedule add FUNCTION 'rate(5 minutes)'%s", r.dataFlag())
		return nil
	}
	t := table{header: []string{"SCHEDULE", "WHEN", "TARGET", "NEXT"}}
	for i := range list {
		s := &list[i]
		name := s.Name
		if s.Group != schedule.DefaultGroup {
			name = s.Group + "/" + name
		}
		next := "never"
		if s.State == "DISABLED" {
			next = "disabled"
		} else if len(s.Next) > 0 {
			next = strings.TrimPrefix(s.when(), "next at ")
		}
		t.add(a.bold(name), s.Expression, targetName(s.Target), next)
	}
	t.print(a.out, a)
	return nil
}

// targetName is the function that an ARN names, or the ARN of anything else.
func targetName(arn string) string {
	if parts := strings.SplitN(arn, ":", 7); len(parts) == 7 && parts[2] == "lambda" {
		return parts[6]
	}
	return arn
}

func (r *remote) scheduleFailure(thing string, err error) error {
	if errorName(err) == string(hearth.NotFound) {
		return failed(thing, err, "hearth schedule shows those that there are.")
	}
	return r.failure(thing, err)
}

// scheduler calls EventBridge Scheduler's API, which is REST and small: its SDK
// would be as large as the rest of this program's clients.
func (r *remote) scheduler(ctx context.Context, method, path string, q url.Values, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, r.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.URL.RawQuery = q.Encode()
	hash := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, r.credentials, req, hex.EncodeToString(hash[:]), "scheduler", r.region, time.Now()); err != nil {
		return err
	}
	resp, err := r.control.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		e := &smithy.GenericAPIError{Code: resp.Header.Get("X-Amzn-ErrorType")}
		if json.Unmarshal(answer, e) != nil || e.Message == "" {
			e.Message = "the server answered " + resp.Status
		}
		return e
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}
