package main

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/taskset"
)

func (a *app) tasksCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tasks",
		Short: "Publish functions as one API for other accounts, and call theirs",
		Long: `A task API is a named set of functions that other accounts call, at their own
expense and without seeing the code. Its owner changes the set as a whole: a
call sees it as it was or as it is.

As the owner:
  hearth tasks create img --account 111122223333 --rate 50
  hearth tasks put img resize=resize thumb=thumbnail:3 exif=exif
  hearth tasks put img thumb=thumbnail --remove exif
  hearth tasks stage img prod 1             back to version 1
  hearth tasks subscribers img
  hearth tasks approve|deny|withdraw img 111122223333

As another account:
  hearth tasks subscribe 000000000000/img --set-file KEY=key.txt
  hearth invoke img--thumb '{}'             at the stage of default
  hearth invoke img--thumb:beta '{}'
  hearth tasks key create img

By HTTP, signed or with an API key: POST /tasks/OWNER/API/STAGE/TASK`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.tasksDo(cmd, "can't find out about task APIs", func(r *remote) (control.TaskList, error) { return r.control.Tasks(cmd.Context()) }, "")
		},
	}
	cmd.AddCommand(a.tasksCreateCmd(), a.tasksConfigureCmd(), a.tasksPutCmd(), a.tasksStageCmd(), a.tasksRmCmd(), a.tasksSubscribersCmd(),
		a.tasksApproveCmd(), a.tasksDecideCmd("deny", "Say no to an account that has asked"),
		a.tasksDecideCmd("withdraw", "Take access back from an account: its calls are refused from now on"),
		a.tasksSubscribeCmd(), a.tasksUnsubscribeCmd(), a.tasksKeyCmd())
	return cmd
}

// tasksDo does something and shows what there is then, after a sentence.
func (a *app) tasksDo(_ *cobra.Command, failed string, do func(*remote) (control.TaskList, error), done string) error {
	r, err := a.connect()
	if err != nil {
		return err
	}
	list, err := do(r)
	if err != nil {
		return r.failure(failed, err)
	}
	if a.json {
		return a.printJSON(list)
	}
	if done != "" {
		fmt.Fprintln(a.out, done)
		return nil
	}
	a.printTasks(&list)
	return nil
}

func (a *app) printTasks(list *control.TaskList) {
	if len(list.APIs)+len(list.Subscriptions) == 0 {
		a.say("There are no task APIs. Publish one with: hearth tasks create NAME; ask for another account's with: hearth tasks subscribe OWNER/NAME")
		return
	}
	if len(list.APIs) > 0 {
		t := table{header: []string{"API", "STAGE", "VERSION", "TASKS", "ACCESS"}}
		for _, api := range list.APIs {
			access := "on approval"
			if api.Open {
				access = "open"
			}
			if api.Key {
				access += ", with key"
			}
			if len(api.Stages) == 0 {
				t.add(a.bold(api.Name), "-", "-", "none yet", access)
			}
			for _, stage := range slices.Sorted(maps.Keys(api.Stages)) {
				var tasks []string
				for _, v := range api.Versions {
					for _, one := range v.Tasks {
						if v.Number == api.Stages[stage] {
							tasks = append(tasks, one.Name+"="+one.Function+":"+one.Version)
						}
					}
				}
				t.add(a.bold(api.Name), stage, strconv.Itoa(api.Stages[stage]), strings.Join(tasks, " "), access)
			}
		}
		t.print(a.out, a)
	}
	if len(list.Subscriptions) > 0 {
		t := table{header: []string{"SUBSCRIPTION", "TO", "STATUS", "CALL", "PARAMETERS", "REACHES", "MARKUP", "CALLS THIS MONTH"}}
		for _, s := range list.Subscriptions {
			var calls []string
			for _, stage := range slices.Sorted(maps.Keys(s.Names)) {
				for _, task := range s.Names[stage] {
					calls = append(calls, s.Alias+"--"+task+":"+stage)
				}
			}
			reached := "as the owner says"
			if s.Network != nil {
				reached = reaches(*s.Network)
			}
			t.add(a.bold(s.Alias), string(s.Owner)+"/"+s.API, string(s.Status), strings.Join(calls, " "), subscribed(&s), reached, agreed(s.Markup), strconv.FormatInt(s.Used.MonthCalls, 10))
		}
		t.print(a.out, a)
	}
}

// subscribed are a subscription's parameters: those that are set, those that could
// be in brackets, and after an exclamation mark those that must be.
func subscribed(s *control.TaskSubscription) string {
	var all []string
	note := func(name string) {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	for _, name := range s.Set {
		note(name)
	}
	for _, stage := range slices.Sorted(maps.Keys(s.Parameters)) {
		for _, p := range s.Parameters[stage] {
			switch {
			case slices.Contains(s.Set, p.Name):
			case p.Required && p.Default == "":
				note("!" + p.Name)
			default:
				note("(" + p.Name + ")")
			}
		}
	}
	return strings.Join(all, " ")
}

// taskSettings are the flags of an API's settings.
type taskSettings struct {
	taskset.Settings
	accounts []string
}

func (s *taskSettings) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&s.Open, "open", false, "every account that asks gets access at once")
	f.StringSliceVar(&s.accounts, "account", nil, "`ACCOUNT` that gets access at once when it asks; may be given again")
	f.BoolVar(&s.Key, "key", false, "a call needs an API key")
	f.Float64Var(&s.Quota.Rate, "rate", 0, "calls that a subscription may begin in a second")
	f.IntVar(&s.Quota.Burst, "burst", 0, "of those at once")
	f.IntVar(&s.Quota.Concurrency, "concurrency", 0, "calls of a subscription at a time")
	f.Int64Var(&s.Quota.Day, "day", 0, "calls of a subscription in a day")
	f.Int64Var(&s.Quota.Month, "month", 0, "calls of a subscription in a month")
	f.Float64Var(&s.Quota.CPUSeconds, "cpu-seconds", 0, "seconds of processor time of a subscription in a month")
	f.Float64Var(&s.KeyQuota.Rate, "key-rate", 0, "calls that an API key may begin in a second")
	f.Int64Var(&s.KeyQuota.Day, "key-day", 0, "calls of an API key in a day")
	f.Int64Var(&s.KeyQuota.Month, "key-month", 0, "calls of an API key in a month")
	f.Float64Var(&s.Markup, "markup", 0, "what is asked on top of what a run costs, as a share of it")
	f.StringSliceVar(&s.Reaches, "reaches", nil, "`HOST:PORT` that the tasks need of the network; may be given again")
	f.StringVar(&s.Stage, "default-stage", "", "the stage of calls that name none (default "+taskset.DefaultStage+")")
}

func (s *taskSettings) settings() taskset.Settings {
	for _, a := range s.accounts {
		s.Accounts = append(s.Accounts, hearth.Account(a))
	}
	return s.Settings
}

// over are the settings that there were with those that were given in their place.
func (s *taskSettings) over(cmd *cobra.Command, was taskset.Settings) taskset.Settings {
	now := s.settings()
	for flag, put := range map[string]func(){
		"open": func() { was.Open = now.Open }, "account": func() { was.Accounts = now.Accounts }, "key": func() { was.Key = now.Key },
		"rate": func() { was.Quota.Rate = now.Quota.Rate }, "burst": func() { was.Quota.Burst = now.Quota.Burst },
		"concurrency": func() { was.Quota.Concurrency = now.Quota.Concurrency }, "day": func() { was.Quota.Day = now.Quota.Day },
		"month": func() { was.Quota.Month = now.Quota.Month }, "cpu-seconds": func() { was.Quota.CPUSeconds = now.Quota.CPUSeconds },
		"key-rate": func() { was.KeyQuota.Rate = now.KeyQuota.Rate }, "key-day": func() { was.KeyQuota.Day = now.KeyQuota.Day },
		"key-month": func() { was.KeyQuota.Month = now.KeyQuota.Month }, "markup": func() { was.Markup = now.Markup },
		"reaches": func() { was.Reaches = now.Reaches }, "default-stage": func() { was.Stage = now.Stage },
	} {
		if cmd.Flags().Changed(flag) {
			put()
		}
	}
	return was
}

func (a *app) tasksCreateCmd() *cobra.Command {
	var s taskSettings
	var description string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a task API, without tasks",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tasksDo(cmd, "can't make the task API", func(r *remote) (control.TaskList, error) {
				return r.control.ChangeTasks(cmd.Context(), "create", url.Values{"name": {args[0]}}, control.TaskSpec{Description: description, Settings: s.settings()})
			}, args[0]+" is made; give it tasks with: hearth tasks put "+args[0]+" TASK=FUNCTION...")
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	return cmd
}

func (a *app) tasksConfigureCmd() *cobra.Command {
	var s taskSettings
	cmd := &cobra.Command{
		Use:   "configure NAME",
		Short: "Change what the flags say of a task API's settings; the rest stays",
		Example: `  hearth tasks configure img --markup 0.3 --rate 20
  hearth tasks configure img --key=false --reaches ''`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tasksDo(cmd, "can't configure the task API", func(r *remote) (control.TaskList, error) {
				all, err := r.control.Tasks(cmd.Context())
				if err != nil {
					return all, err
				}
				spec := control.TaskSpec{Settings: s.settings()}
				for _, api := range all.APIs {
					if api.Name == args[0] {
						spec.Settings = s.over(cmd, api.Settings)
					}
				}
				return r.control.ChangeTasks(cmd.Context(), "configure", url.Values{"name": {args[0]}}, spec)
			}, args[0]+" is configured")
		},
	}
	s.flags(cmd)
	return cmd
}

func (a *app) tasksPutCmd() *cobra.Command {
	var stage, description string
	var remove, parameters []string
	var noParameters bool
	cmd := &cobra.Command{
		Use:   "put API [TASK=FUNCTION[:VERSION]...]",
		Short: "Set and remove tasks, all at once",
		Long: `Make a new version of the set, with tasks set and removed, and put a stage at it.
All of it takes effect at once, for all subscribers. A function without a version
is taken as its code is now, which is published.

Parameters are what the tasks want of each subscriber; they come to all of them as
environment variables. Those given replace those that there were, with this version
of the set; a subscriber that has not set a required one is refused until it has.`,
		Example: `  hearth tasks put img resize=resize thumb=thumbnail:3
  hearth tasks put img --parameter BUCKET:required --parameter KEY:secret:required --parameter QUALITY=80`,
		Args: between(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := taskset.TaskChange{Description: description, Remove: remove}
			for _, arg := range args[1:] {
				name, function, ok := strings.Cut(arg, "=")
				if !ok {
					return usage(fmt.Sprintf("%q is no TASK=FUNCTION", arg), "As in thumb=thumbnail, or thumb=thumbnail:3.")
				}
				function, version, _ := strings.Cut(function, ":")
				c.Set = append(c.Set, taskset.Task{Name: name, Function: function, Version: version})
			}
			if noParameters || len(parameters) > 0 {
				c.Parameters = &[]hearth.Parameter{}
				for _, p := range parameters {
					one, err := parameterOf(p)
					if err != nil {
						return err
					}
					*c.Parameters = append(*c.Parameters, one)
				}
			}
			if err := valid(cmd, !noParameters || len(parameters) == 0, "only one of --parameter and --no-parameters can hold"); err != nil {
				return err
			}
			if len(c.Set)+len(c.Remove) == 0 && c.Parameters == nil {
				return usage("nothing to change", "Add TASK=FUNCTION, --remove TASK, or --parameter NAME.")
			}
			return a.tasksDo(cmd, "can't change the tasks", func(r *remote) (control.TaskList, error) {
				return r.control.ChangeTasks(cmd.Context(), "put", url.Values{"name": {args[0]}, "stage": {stage}}, c)
			}, args[0]+" is changed; see it with: hearth tasks")
		},
	}
	cmd.Flags().StringVar(&stage, "stage", "", "the `STAGE` (default: that of calls that name none)")
	cmd.Flags().StringSliceVar(&remove, "remove", nil, "`TASK` to remove; may be given again")
	cmd.Flags().StringArrayVar(&parameters, "parameter", nil, "what the tasks want of subscribers: `NAME[:secret][:required][=DEFAULT]`; may be given again, and replaces what there was")
	cmd.Flags().BoolVar(&noParameters, "no-parameters", false, "the tasks want none any more")
	cmd.Flags().StringVar(&description, "description", "", "what is new")
	return cmd
}

func (a *app) tasksStageCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "stage API STAGE VERSION",
		Short: "Put a stage at a version of the set; 0 removes the stage",
		Args:  exactly(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tasksDo(cmd, "can't move the stage", func(r *remote) (control.TaskList, error) {
				return r.control.ChangeTasks(cmd.Context(), "point", url.Values{"name": {args[0]}, "stage": {args[1]}, "version": {args[2]}}, nil)
			}, "the stage "+args[1]+" of "+args[0]+" is at version "+args[2])
		},
	}
}

func (a *app) tasksRmCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "rm API",
		Short: "Delete a task API: calls are refused from now on",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tasksDo(cmd, "can't delete the task API", func(r *remote) (control.TaskList, error) {
				return r.control.ChangeTasks(cmd.Context(), "delete", url.Values{"name": {args[0]}}, nil)
			}, args[0]+" is deleted")
		},
	}
}

func (a *app) printSubscribers(s *control.TaskSubscribers) error {
	if a.json {
		return a.printJSON(s)
	}
	if len(s.Subscribers) == 0 {
		a.say("Nobody has asked for %s. Tell them: hearth tasks subscribe OWNER/%s", s.API, s.API)
		return nil
	}
	t := table{header: []string{"ACCOUNT", "STATUS", "SINCE", "CALLS TODAY", "CALLS THIS MONTH"}}
	for _, one := range s.Subscribers {
		t.add(string(one.Account), string(one.Status), one.Created.Format("2006-01-02"), strconv.FormatInt(one.Used.DayCalls, 10), strconv.FormatInt(one.Used.MonthCalls, 10))
	}
	t.print(a.out, a)
	return nil
}

func (a *app) tasksSubscribersCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "subscribers API",
		Short: "Who has access to a task API, or has asked for it",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			s, err := r.control.TaskSubscribers(cmd.Context(), args[0])
			if err != nil {
				return r.failure("can't find out about the subscribers", err)
			}
			return a.printSubscribers(&s)
		},
	}
}

func (a *app) tasksApproveCmd() *cobra.Command {
	var q taskset.Quota
	cmd := &cobra.Command{
		Use:   "approve API ACCOUNT",
		Short: "Let an account in that has asked, with quotas of its own if some are given",
		Args:  exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			own := &q
			if q == (taskset.Quota{}) {
				own = nil
			}
			return a.decideTask(cmd, "approve", args, own)
		},
	}
	f := cmd.Flags()
	f.Float64Var(&q.Rate, "rate", 0, "calls that it may begin in a second")
	f.IntVar(&q.Burst, "burst", 0, "of those at once")
	f.IntVar(&q.Concurrency, "concurrency", 0, "calls at a time")
	f.Int64Var(&q.Day, "day", 0, "calls in a day")
	f.Int64Var(&q.Month, "month", 0, "calls in a month")
	f.Float64Var(&q.CPUSeconds, "cpu-seconds", 0, "seconds of processor time in a month")
	return cmd
}

func (a *app) tasksDecideCmd(what, short string) *cobra.Command {
	return &cobra.Command{
		Use: what + " API ACCOUNT", Short: short, Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.decideTask(cmd, what, args, nil) },
	}
}

func (a *app) decideTask(cmd *cobra.Command, what string, args []string, q *taskset.Quota) error {
	r, err := a.connect()
	if err != nil {
		return err
	}
	s, err := r.control.DecideTask(cmd.Context(), what, args[0], hearth.Account(args[1]), q)
	if err != nil {
		return r.failure("can't "+what+" access", err)
	}
	return a.printSubscribers(&s)
}

func (a *app) tasksSubscribeCmd() *cobra.Command {
	var alias string
	var set, files, unset, allow []string
	var open, none, offered bool
	var markup float64
	cmd := &cobra.Command{
		Use:   "subscribe OWNER/API",
		Short: "Ask for access to another account's task API, or change what its tasks are given",
		Long: `Ask for access to a task API of another account: for all its tasks, in one
operation. The tasks may reach what the owner says now that they need, or what
--allow says in its place; nothing that the owner says later widens it. Nor does
the owner raise what you pay on its own: if it asks for more markup than you have
agreed to, calls are refused until you subscribe again with --markup.

Parameters come to all tasks as environment variables. They are sealed on disk and
shown to nobody again. Subscribing again changes what the flags say, and the rest
stays: the next call goes by it, in a new environment.`,
		Example: `  hearth tasks subscribe 000000000000/img --set BUCKET=mine --set-file KEY=key.txt
  vault read key | hearth tasks subscribe 000000000000/img --set-file KEY=-
  hearth tasks subscribe 000000000000/img --allow s3.example.com:443`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			owner, name, ok := strings.Cut(args[0], "/")
			if !ok {
				return usage(fmt.Sprintf("%q is no OWNER/API", args[0]), "As in 000000000000/img, with the owner's account.")
			}
			if err := valid(cmd, btoi(len(allow) > 0)+btoi(open)+btoi(none)+btoi(offered) <= 1, "only one of --allow, --open-network, --allow-nothing and --allow-offered can hold"); err != nil {
				return err
			}
			values, err := parameterValues(cmd, set, files, unset)
			if err != nil {
				return err
			}
			want := taskset.TaskWish{AsOffered: offered, Parameters: values}
			if cmd.Flags().Changed("markup") {
				want.Markup = &markup
			}
			if len(allow) > 0 || open || none {
				want.Network = &hearth.NetworkPolicy{Open: open, Allow: allow}
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			list, err := r.control.ChangeTasks(cmd.Context(), "subscribe", url.Values{"owner": {owner}, "name": {name}, "alias": {alias}}, want)
			if err != nil {
				return r.failure("can't subscribe", err)
			}
			if a.json {
				return a.printJSON(list)
			}
			a.printTasks(&list)
			return nil
		},
	}
	cmd.Flags().Float64Var(&markup, "markup", 0, "the most that you agree to on top of what a run costs, as a share of it (default: what the owner asks when you subscribe)")
	cmd.Flags().StringVar(&alias, "as", "", "what the account calls it (default: the API's name)")
	cmd.Flags().StringArrayVar(&set, "set", nil, "a parameter: `NAME=VALUE`")
	cmd.Flags().StringArrayVar(&files, "set-file", nil, "a parameter from a file, or with - from the standard input: `NAME=FILE`")
	cmd.Flags().StringArrayVar(&unset, "unset", nil, "take the parameter `NAME` away")
	cmd.Flags().StringSliceVar(&allow, "allow", nil, "`HOST:PORT` that the runs may reach; may be given again (default: what the owner says that they need)")
	cmd.Flags().BoolVar(&open, "open-network", false, "the runs may reach whatever any function may")
	cmd.Flags().BoolVar(&none, "allow-nothing", false, "the runs may reach nothing")
	cmd.Flags().BoolVar(&offered, "allow-offered", false, "the runs may reach what the owner says now that they need")
	return cmd
}

func (a *app) tasksUnsubscribeCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "unsubscribe ALIAS",
		Short: "End a subscription, with its keys",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tasksDo(cmd, "can't unsubscribe", func(r *remote) (control.TaskList, error) {
				return r.control.ChangeTasks(cmd.Context(), "unsubscribe", url.Values{"alias": {args[0]}}, nil)
			}, "the subscription "+args[0]+" is ended")
		},
	}
}

func (a *app) tasksKeyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Show the API keys of the subscriptions, make and end them",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return list(cmd.Context(), a, "the keys", (*control.Client).Tasks, func(_ *remote, all control.TaskList) error {
				t := table{header: []string{"SUBSCRIPTION", "KEY", "NAME", "CREATED", "CALLS TODAY", "CALLS THIS MONTH"}}
				for _, s := range all.Subscriptions {
					for _, k := range s.Keys {
						used := s.KeysUsed[k.ID]
						t.add(s.Alias, k.ID, k.Name, k.Created.Format("2006-01-02"), strconv.FormatInt(used.DayCalls, 10), strconv.FormatInt(used.MonthCalls, 10))
					}
				}
				if len(t.rows) == 0 {
					a.say("There are none. Make one with: hearth tasks key create ALIAS")
					return nil
				}
				t.print(a.out, a)
				return nil
			})
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "create ALIAS [NAME]",
		Short: "Make an API key; its secret is shown once",
		Args:  between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			k, err := r.control.MakeTaskKey(cmd.Context(), args[0], strings.Join(args[1:], ""))
			if err != nil {
				return r.failure("can't make the key", err)
			}
			if a.json {
				return a.printJSON(k)
			}
			fmt.Fprintln(a.out, k.Secret)
			a.say("That is the key %s, which is not shown again. Call with it as the header X-Api-Key.", k.ID)
			return nil
		},
	}, &cobra.Command{
		Use:   "rm ALIAS KEY",
		Short: "End an API key: calls with it are refused from now on",
		Args:  exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tasksDo(cmd, "can't delete the key", func(r *remote) (control.TaskList, error) {
				return r.control.ChangeTasks(cmd.Context(), "keys/delete", url.Values{"alias": {args[0]}, "id": {args[1]}}, nil)
			}, "the key "+args[1]+" is ended")
		},
	})
	return cmd
}
