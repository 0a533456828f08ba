package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/execution"
)

func (a *app) policyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy [FUNCTION]",
		Short: "Show or change how Hearth decides for a function, or for all of the account",
		Long: `Show how the systems that decide for a function are set: its own settings
(execution policy), and below them those of the account, which hold where the
function has none. Without a function the account's are shown. What is not set
is at its default: on, and safe.

  hearth policy set FUNCTION sizing.mode=auto
  hearth policy set sizing.mode=off update.mode=wait     for all of the account
  hearth policy clear FUNCTION sizing
  hearth policy clear FUNCTION`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			function := strings.Join(args, "")
			r, err := a.connect()
			if err != nil {
				return err
			}
			p, err := r.control.Policy(cmd.Context(), function)
			if err != nil {
				return r.failure("can't find out about the policy", err)
			}
			if a.json {
				return a.printJSON(p)
			}
			own, effective := settingsOf(p.Own), settingsOf(p.Effective)
			t := table{header: []string{"SETTING", "VALUE", "SAID FOR"}}
			for _, name := range slices.Sorted(maps.Keys(effective)) {
				for _, field := range slices.Sorted(maps.Keys(effective[name])) {
					owner := "the account"
					if _, ok := own[name]; ok && function != "" {
						owner = function
					}
					t.add(name+"."+field, a.bold(strings.Trim(string(effective[name][field]), `"`)), owner)
				}
			}
			if len(t.rows) == 0 {
				a.say("Nothing is set: every system is at its default.")
			} else {
				t.print(a.out, a)
			}
			a.say("Change it with: hearth policy set %sSYSTEM.SETTING=VALUE; the systems: %s", word(function), strings.Join(execution.Names(), ", "))
			return nil
		},
	}
	cmd.AddCommand(a.policySetCmd(), a.policyClearCmd())
	return cmd
}

// word is s and a space, or nothing.
func word(s string) string {
	if s == "" {
		return ""
	}
	return s + " "
}

// settings are what a policy says, by system and setting.
type settings map[string]map[string]json.RawMessage

func settingsOf(p *hearth.ExecutionPolicy) settings {
	s := settings{}
	data, err := json.Marshal(p)
	if err == nil && p != nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		panic(err) // of plain types
	}
	return s
}

// policy is what the settings say; an error names what there is not.
func (s settings) policy() (*hearth.ExecutionPolicy, error) {
	if len(s) == 0 {
		return nil, nil
	}
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	p := new(hearth.ExecutionPolicy)
	if err := dec.Decode(p); err != nil {
		return nil, fmt.Errorf("that is no setting: %w", err)
	}
	return p, execution.Check(p)
}

func (a *app) policySetCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "set [FUNCTION] SYSTEM.SETTING=VALUE...",
		Short: "Change settings",
		Args:  between(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			function := ""
			if !strings.Contains(args[0], "=") {
				function, args = args[0], args[1:]
			}
			if len(args) == 0 {
				return usage("nothing to set", "Add SYSTEM.SETTING=VALUE, as in sizing.mode=auto.")
			}
			return a.changePolicy(cmd, function, func(s settings) error {
				for _, arg := range args {
					path, value, ok := strings.Cut(arg, "=")
					system, setting, dotted := strings.Cut(path, ".")
					if !ok || !dotted {
						return usage(fmt.Sprintf("%q is no SYSTEM.SETTING=VALUE", arg), "As in sizing.mode=auto; the systems: "+strings.Join(execution.Names(), ", ")+".")
					}
					raw := json.RawMessage(value)
					if !json.Valid(raw) {
						quoted, err := json.Marshal(value)
						if err != nil {
							return err
						}
						raw = quoted
					}
					if s[system] == nil {
						s[system] = map[string]json.RawMessage{}
					}
					s[system][setting] = raw
				}
				return nil
			})
		},
	}
}

func (a *app) policyClearCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "clear [FUNCTION] [SYSTEM...]",
		Short: "Take settings back; without a system, all of them",
		Args:  between(0, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			function := ""
			if len(args) > 0 && !slices.Contains(execution.Names(), args[0]) {
				function, args = args[0], args[1:]
			}
			return a.changePolicy(cmd, function, func(s settings) error {
				if len(args) == 0 {
					clear(s)
				}
				for _, name := range args {
					if !slices.Contains(execution.Names(), name) {
						return usage(fmt.Sprintf("there is no system %q", name), "The systems: "+strings.Join(execution.Names(), ", ")+".")
					}
					delete(s, name)
				}
				return nil
			})
		},
	}
}

// changePolicy has change alter what was said for the function, or with "" for
// the account, and tells what is in force then.
func (a *app) changePolicy(cmd *cobra.Command, function string, change func(settings) error) error {
	r, err := a.connect()
	if err != nil {
		return err
	}
	now, err := r.control.Policy(cmd.Context(), function)
	if err != nil {
		return r.failure("can't find out about the policy", err)
	}
	s := settingsOf(now.Own)
	if err := change(s); err != nil {
		return err
	}
	p, err := s.policy()
	if err != nil {
		return usage(err.Error(), "See hearth policy --help.")
	}
	after, err := r.control.SetPolicy(cmd.Context(), function, p)
	if err != nil {
		return r.failure("can't change the policy", err)
	}
	if a.json {
		return a.printJSON(after)
	}
	whose := "the account's"
	if function != "" {
		whose = function + "'s"
	}
	fmt.Fprintf(a.out, "%s policy is changed\n", whose)
	a.say("See it with: hearth policy %s%s", function, r.dataFlag())
	return nil
}
