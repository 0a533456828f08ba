package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/proxy"
)

func (a *app) proxyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Give devices and backends an HTTP API whose work is done by functions",
		Long: `Give resources, such as devices and backends, an HTTP API whose work is done by
functions. A resource has a type and a state (JSON); a proxy API says by which
methods and path it is called, which function runs, and how requests become
events, results responses, and changes of the state. It is a JSON document whose
expressions are CEL.

Without a command the proxy APIs are listed, with their URLs.`,
		Example: `  hearth proxy resource put lamp-1 lamp '{"level": 0}'
  hearth proxy put lamp-set.json
  hearth proxy try lamp-set PUT /lamps/lamp-1/level --body '{"level": 7}' --result '{"level": 7}'
  hearth proxy`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.listProxies(cmd.Context()) },
	}
	cmd.AddCommand(a.proxyPutCmd(), a.proxyShowCmd(), a.proxyRmCmd("rm API...", "Remove proxy APIs; calls that run end", "apis"), a.proxyTryCmd(),
		a.proxyResourceCmd(), a.proxyKeyCmd(), a.proxyExportCmd(), a.proxyImportCmd())
	if a.newProxy != nil {
		cmd.AddCommand(a.proxyServeCmd())
	}
	return cmd
}

func (a *app) listProxies(ctx context.Context) error {
	return list(ctx, a, "the proxy APIs", func(c *control.Client, ctx context.Context) ([]proxy.API, error) {
		return c.ProxyAPIs(ctx, "")
	}, func(r *remote, list []proxy.API) error {
		if len(list) == 0 {
			a.say("There are no proxy APIs. See hearth proxy --help for how to make one.")
			return nil
		}
		account, err := r.account(ctx)
		if err != nil {
			return r.failure("can't find out whose these are", err)
		}
		t := table{header: []string{"API", "REVISION", "FOR", "FUNCTION", "WHO MAY", "CALLED BY"}}
		for _, p := range list {
			of := "type " + p.Type
			if p.Resource != "" {
				of = p.Resource
			}
			t.add(a.bold(p.ID), fmt.Sprint(p.Revision), of, p.Function, p.Auth.Kind, strings.Join(p.Methods, ",")+" "+r.endpoint+proxy.PathPrefix+string(account)+p.Path)
		}
		t.print(a.out, a)
		return nil
	})
}

// document reads a file, or with - standard input.
func (a *app) document(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(a.in)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, failed("the file "+file+" can't be read", cause(err), "")
	}
	return data, nil
}

func (a *app) proxyPutCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "put FILE...",
		Short: "Make proxy APIs of their definitions (JSON; - is standard input), or change them",
		Long: `Make proxy APIs of their definitions, or change them: each call that begins from
then on is served by the new one, and those under way end with the old one.
A definition with a "revision" changes only the API that is still at that one.`,
		Args: between(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			var made []proxy.API
			for _, file := range args {
				doc, err := a.document(file)
				if err != nil {
					return err
				}
				p, err := r.control.PutProxyAPI(cmd.Context(), doc)
				if err != nil {
					return r.failure("can't take the definition in "+file, err)
				}
				made = append(made, p)
				if !a.json {
					fmt.Fprintf(a.out, "%s is at revision %d\n", a.bold(p.ID), p.Revision)
				}
			}
			if a.json {
				return a.printJSON(made)
			}
			a.say("Where it is called: hearth proxy%s", r.dataFlag())
			return nil
		},
	}
}

func (a *app) proxyShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "show API",
		Short: "Show a proxy API's definition",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			list, err := r.control.ProxyAPIs(cmd.Context(), args[0])
			if err != nil {
				return r.failure("can't show "+args[0], err)
			}
			return a.printJSON(list[0])
		},
	}
}

// proxyRmCmd removes some of the resources, apis or keys.
func (a *app) proxyRmCmd(use, short, of string) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  between(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(args, "removed", func(r *remote, id string) error {
				if err := r.control.RemoveProxy(cmd.Context(), of, id); err != nil {
					return r.failure("can't remove "+id, err)
				}
				return nil
			})
		},
	}
}

func (a *app) proxyTryCmd() *cobra.Command {
	var t proxy.Trial
	var headers []string
	var result, fault, errorType, file, state, claims string
	cmd := &cobra.Command{
		Use:   "try [API] METHOD PATH",
		Short: "Think a call through: nothing is run, and nothing changes",
		Long: `Think a call through: which event the function would get, and with --result or
--error what would become of the state, and what the response would be. With
--file a definition is tried that is not stored yet.`,
		Example: `  hearth proxy try lamp-set PUT /lamps/lamp-1/level --body '{"level": 7}'
  hearth proxy try lamp-set PUT /lamps/lamp-1/level --body '{"level": 7}' --result '{"level": 7}' --header 'Accept: application/xml'
  hearth proxy try --file lamp-set.json --state '{"level": 1}' PUT /lamps/x/level --error FunctionTimeout`,
		Args: between(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 3) == (file != "") {
				return usage("either an API or --file says what is tried", "It is used as: "+cmd.UseLine())
			}
			if file != "" {
				doc, err := a.document(file)
				if err != nil {
					return err
				}
				if t.API, err = proxy.DecodeAPI(doc); err != nil {
					return failed("the definition in "+file+" can't be", err, "")
				}
			} else {
				t.ID = args[0]
			}
			t.Method, t.Path = args[len(args)-2], args[len(args)-1]
			t.Headers = map[string]string{}
			for _, h := range headers {
				name, value, ok := strings.Cut(h, ":")
				if !ok {
					return usage(fmt.Sprintf("%q is no header", h), "As in --header 'Accept: application/xml'.")
				}
				t.Headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
			}
			for name, text := range map[string]string{"result": result, "state": state, "claims": claims} {
				if text != "" && !json.Valid([]byte(text)) {
					return usage("--"+name+" is no JSON", `Quote it for the shell: --`+name+` '{"level": 7}'`)
				}
			}
			t.Result, t.Claims = json.RawMessage(result), json.RawMessage(claims)
			if state != "" {
				t.Resource = &proxy.Resource{State: json.RawMessage(state)}
			}
			if fault != "" {
				t.Error = &proxy.TrialError{Fault: proxy.Fault(fault), Type: errorType}
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			out, err := r.control.TryProxy(cmd.Context(), t)
			if err != nil {
				return r.failure("can't try that", err)
			}
			return a.printTried(out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&t.Body, "body", "", "the request's `body`")
	f.StringArrayVar(&headers, "header", nil, "a `header` of the request, NAME: VALUE")
	f.StringVar(&result, "result", "", "`JSON` that the function is assumed to return")
	f.StringVar(&fault, "error", "", "`fault` that the call is assumed to come to, such as FunctionFailed")
	f.StringVar(&errorType, "error-type", "", "the function's own `type` of it")
	f.StringVar(&state, "state", "", "`JSON` that stands for the resource's state")
	f.StringVar(&claims, "claims", "", "`JSON` that the caller's token is assumed to say, such as '{\"sub\": \"ada\"}'")
	f.StringVar(&file, "file", "", "the definition in a `file`, instead of a stored one")
	return cmd
}

func (a *app) printTried(t proxy.Tried) error {
	if a.json {
		return a.printJSON(t)
	}
	line := func(label, text string) { fmt.Fprintf(a.out, "%s %s\n", a.faint(fmt.Sprintf("%-9s", label)), text) }
	if t.Resource != "" {
		line("resource", t.Resource)
	}
	if len(t.Event) > 0 {
		line("event", string(t.Event))
	}
	if len(t.State) > 0 {
		line("state", string(t.State))
	}
	if t.Fault != "" {
		line("fault", a.amber(t.Why))
	}
	if t.Response == nil {
		a.say("What becomes of a result shows --result JSON.")
		return nil
	}
	line("response", strconv.Itoa(t.Response.Status))
	for _, name := range sortedKeys(t.Response.Headers) {
		line("", name+": "+strings.Join(t.Response.Headers[name], ", "))
	}
	line("", t.Response.Body)
	return nil
}

func (a *app) proxyKeyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Show, make or remove keys with which proxy APIs are called",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return list(cmd.Context(), a, "the keys", (*control.Client).ProxyKeys, func(r *remote, list []proxy.Key) error {
				t := table{header: []string{"KEY", "MADE"}}
				for _, k := range list {
					t.add(a.bold(k.Name), k.Created.Local().Format("2006-01-02 15:04"))
				}
				if len(list) == 0 {
					a.say("There are no keys. Make one with: hearth proxy key add NAME%s", r.dataFlag())
					return nil
				}
				t.print(a.out, a)
				return nil
			})
		},
	}
	add := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a key; its text is printed this once, and not kept",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			k, err := r.control.AddProxyKey(cmd.Context(), args[0])
			if err != nil {
				return r.failure("can't make the key", err)
			}
			if a.json {
				return a.printJSON(k)
			}
			fmt.Fprintln(a.out, k.Text)
			a.say("It is sent in the header X-Api-Key, and is not shown again.")
			return nil
		},
	}
	cmd.AddCommand(add, a.proxyRmCmd("rm NAME...", "Remove keys, which are refused at once", "keys"))
	return cmd
}

func (a *app) proxyExportCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Print all resources and proxy APIs as one document, without the keys",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.connect()
			if err != nil {
				return err
			}
			d, err := r.control.ExportProxies(cmd.Context())
			if err != nil {
				return r.failure("can't export", err)
			}
			return a.printJSON(d)
		},
	}
}

func (a *app) proxyImportCmd() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Take in what export printed; all of it is checked first",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := a.document(args[0])
			if err != nil {
				return err
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			n, err := r.control.ImportProxies(cmd.Context(), doc, keep)
			if err != nil {
				return r.failure("can't import "+args[0], err)
			}
			if a.json {
				return a.printJSON(n)
			}
			fmt.Fprintf(a.out, "%d resources and %d proxy APIs made or changed, %d resources kept as they were\n", n.Resources, n.APIs, n.Kept)
			return nil
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave resources that there are already as they are")
	return cmd
}
