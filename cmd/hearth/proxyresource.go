package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/proxy"
)

func (a *app) proxyResourceCmd() *cobra.Command {
	var typ string
	cmd := &cobra.Command{
		Use:   "resource [ID]",
		Short: "Show, make or remove the resources that proxy APIs are for",
		Args:  between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			list, err := r.control.ProxyResources(cmd.Context(), typ, strings.Join(args, ""))
			if err != nil {
				return r.failure("can't look at the resources", err)
			}
			if a.json {
				return a.printJSON(list)
			}
			if len(list) == 0 {
				a.say("There are none. Make one with: hearth proxy resource put ID TYPE STATE%s", r.dataFlag())
				return nil
			}
			t := table{header: []string{"RESOURCE", "TYPE", "REVISION", "CHANGED", "STATE"}}
			for _, one := range list {
				t.add(a.bold(one.ID), one.Type, fmt.Sprint(one.Revision), one.Changed.Local().Format("2006-01-02 15:04:05"), string(one.State))
			}
			t.print(a.out, a)
			return nil
		},
	}
	cmd.Flags().StringVar(&typ, "type", "", "only those of a `type`")
	cmd.AddCommand(a.proxyResourcePutCmd(), a.proxyRmCmd("rm ID...", "Remove resources", "resources"))
	return cmd
}

func (a *app) proxyResourcePutCmd() *cobra.Command {
	var r proxy.Resource
	cmd := &cobra.Command{
		Use:     "put ID TYPE [STATE]",
		Short:   "Make a resource, or replace the type, state and metadata of one",
		Example: `  hearth proxy resource put lamp-1 lamp '{"level": 0}' --metadata room=kitchen`,
		Args:    between(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.ID, r.Type = args[0], args[1]
			if len(args) == 3 {
				if !json.Valid([]byte(args[2])) {
					return usage("the state is no JSON", `Quote it for the shell: '{"level": 0}'`)
				}
				r.State = json.RawMessage(args[2])
			}
			to, err := a.connect()
			if err != nil {
				return err
			}
			now, err := to.control.PutProxyResource(cmd.Context(), r)
			if err != nil {
				return to.failure("can't put "+r.ID, err)
			}
			if a.json {
				return a.printJSON(now)
			}
			fmt.Fprintf(a.out, "%s is at revision %d\n", a.bold(now.ID), now.Revision)
			return nil
		},
	}
	cmd.Flags().StringToStringVar(&r.Metadata, "metadata", nil, "`NAME=VALUE` that does not change with calls")
	cmd.Flags().Uint64Var(&r.Revision, "revision", 0, "replace it only if it is still at this `number`")
	return cmd
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
