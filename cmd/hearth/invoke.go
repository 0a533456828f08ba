package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/spf13/cobra"
)

// invoked is what an invocation came to, and what --json prints.
type invoked struct {
	RequestID     string          `json:"requestId"`
	Version       string          `json:"version"`
	FunctionError string          `json:"functionError,omitempty"`
	Payload       json.RawMessage `json:"payload"`
	Log           string          `json:"log,omitempty"`
	Millis        float64         `json:"millis"` // as the caller sees it

	raw  []byte
	took time.Duration
}

func (a *app) invokeCmd() *cobra.Command {
	var tail, raw, recompute, async bool
	var qualifier, clientContext string
	var memory int
	cmd := &cobra.Command{
		Use:   "invoke NAME [DATA | @FILE | -]",
		Short: "Run a function once and print its answer",
		Long: `Run a function once and print its answer.

The event is DATA, or a file's content with @FILE, or standard input with -,
or {} if nothing is given. The answer goes to standard output; if the function
failed, its error goes to standard error and the exit code is 3. With --async the
event is stored and the request id printed, without waiting for the run.`,
		Example: `  hearth invoke hello '{"name": "you"}'
  hearth invoke hello @event.json --tail
  hearth invoke hello @event.json --async
  date | jq -R | hearth invoke hello -`,
		Args:              between(1, 2),
		ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			arg := "{}"
			if len(args) == 2 {
				arg = args[1]
			}
			event, err := a.event(arg, raw)
			if err != nil {
				return err
			}
			if err := valid(cmd, clientContext == "" || json.Valid([]byte(clientContext)), "--client-context is not JSON"); err != nil {
				return err
			}
			if err := valid(cmd, !async || !tail && !raw, "--async has no log and no answer: leave out --tail and --raw"); err != nil {
				return err
			}
			r, err := a.connect()
			if err != nil {
				return err
			}
			if async {
				return a.invokeAsync(cmd.Context(), r, args[0], &lambda.InvokeInput{Qualifier: unlessZero(qualifier), Payload: event, ClientContext: encoded(clientContext)}, append(withMemory(memory), withRecompute(recompute)...)...)
			}
			done := a.progress("running " + args[0])
			out, err := r.invoke(cmd.Context(), args[0], qualifier, event, clientContext, tail, append(withMemory(memory), withRecompute(recompute)...)...)
			done()
			if err != nil {
				return r.failure("can't run "+args[0], err)
			}
			return a.printInvoked(r, args[0], out, raw, tail)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&tail, "tail", false, "show the last 4 KiB of the log, on standard error")
	f.BoolVar(&async, "async", false, "do not wait for it")
	f.BoolVar(&raw, "raw", false, "send the event and print the answer byte by byte, JSON or not")
	f.StringVar(&qualifier, "qualifier", "", "a `version` or alias")
	f.IntVar(&memory, "memory", 0, "`MiB` of memory that this invocation is to have at least")
	f.BoolVar(&recompute, "recompute", false, "run it, though it be declared idempotent and nothing have changed")
	f.StringVar(&clientContext, "client-context", "", "`JSON` that the function finds in its context")
	return cmd
}

// withMemory has an invocation ask for so much memory for itself; 0 does not.
func withMemory(mib int) []func(*lambda.Options) {
	if mib == 0 {
		return nil
	}
	return []func(*lambda.Options){lambda.WithAPIOptions(smithyhttp.SetHeaderValue("X-Hearth-Memory", strconv.Itoa(mib)))}
}

// withRecompute insists on a run.
func withRecompute(insist bool) []func(*lambda.Options) {
	if !insist {
		return nil
	}
	return []func(*lambda.Options){lambda.WithAPIOptions(smithyhttp.SetHeaderValue("X-Hearth-Recompute", "true"))}
}

// event reads what the function is given.
func (a *app) event(arg string, raw bool) ([]byte, error) {
	var event []byte
	var err error
	from := "the event"
	switch {
	case arg == "-":
		from = "standard input"
		event, err = io.ReadAll(a.in)
	case strings.HasPrefix(arg, "@"):
		from = arg[1:]
		event, err = os.ReadFile(arg[1:])
	default:
		event = []byte(arg)
	}
	if err != nil {
		return nil, failed("the event can't be read", err, "")
	}
	if !raw && !json.Valid(event) {
		return nil, usage(from+" is not JSON", `A text is JSON in quotes, as in '"text"'; --raw sends it as it is.`)
	}
	return event, nil
}

// encoded is a client context as a request has it.
func encoded(clientContext string) *string {
	if clientContext == "" {
		return nil
	}
	return aws.String(base64.StdEncoding.EncodeToString([]byte(clientContext)))
}

// invokeAsync has an event stored, and prints the request id that it runs under.
func (a *app) invokeAsync(ctx context.Context, r *remote, name string, in *lambda.InvokeInput, options ...func(*lambda.Options)) error {
	in.FunctionName, in.InvocationType = &name, types.InvocationTypeEvent
	out, err := r.lambda.Invoke(ctx, in, options...)
	if err != nil {
		return r.failure("can't run "+name, err)
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	if a.json {
		return a.printJSON(struct {
			RequestID string `json:"requestId"`
		}{id})
	}
	fmt.Fprintln(a.out, id)
	a.say("It is stored, and runs. hearth explain %s%s tells its story once it has, hearth parked%s shows it if it is given up.", id, r.dataFlag(), r.dataFlag())
	return nil
}

func (r *remote) invoke(ctx context.Context, name, qualifier string, event []byte, clientContext string, tail bool, options ...func(*lambda.Options)) (*invoked, error) {
	in := &lambda.InvokeInput{FunctionName: &name, Payload: event, Qualifier: unlessZero(qualifier), ClientContext: encoded(clientContext)}
	if tail {
		in.LogType = types.LogTypeTail
	}
	began := time.Now()
	out, err := r.lambda.Invoke(ctx, in, options...)
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	log, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	if err != nil {
		return nil, fmt.Errorf("the log tail is no base64: %w", err)
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	v := &invoked{
		RequestID: id, Version: aws.ToString(out.ExecutedVersion), FunctionError: aws.ToString(out.FunctionError),
		Log: string(log), Millis: float64(took.Microseconds()) / 1000, raw: out.Payload, took: took,
	}
	v.Payload = out.Payload
	if !json.Valid(out.Payload) { // a text then, so that the document is JSON
		if v.Payload, err = json.Marshal(string(out.Payload)); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (a *app) printInvoked(r *remote, name string, out *invoked, raw, tail bool) error {
	failed := error(nil)
	if out.FunctionError != "" {
		failed = &failure{thing: name + " failed: " + functionError(out), code: exitFunction,
			way: "hearth explain " + out.RequestID + r.dataFlag() + " tells its story, hearth logs " + name + r.dataFlag() + " has its log."}
	}
	if a.json {
		return errors.Join(a.printJSON(out), quietly(failed))
	}
	if tail {
		fmt.Fprint(a.err, out.Log)
	}
	if failed != nil {
		return failed
	}
	if _, err := a.out.Write(out.raw); err != nil {
		return err
	}
	if !raw && a.outTTY {
		fmt.Fprintln(a.out)
	}
	if a.errTTY {
		a.say("%s in %s; hearth explain %s%s", a.paint(a.errTTY, "2", "done"), ms(out.took), out.RequestID, r.dataFlag())
	}
	return nil
}

// functionError is the error document of a function as a person reads it:
// type, message and stack.
func functionError(out *invoked) string {
	var doc struct {
		Type    string          `json:"errorType"`
		Message string          `json:"errorMessage"`
		Stack   json.RawMessage `json:"stackTrace"`
		Trace   json.RawMessage `json:"trace"`
	}
	if err := json.Unmarshal(out.raw, &doc); err != nil || doc.Type == "" && doc.Message == "" {
		return string(out.raw)
	}
	s := strings.Trim(doc.Type+": "+doc.Message, ": ")
	for _, trace := range []json.RawMessage{doc.Stack, doc.Trace} {
		var lines []string
		if json.Unmarshal(trace, &lines) != nil {
			continue // Go's frames are objects, and some have none
		}
		for _, line := range lines {
			s += "\n        " + strings.TrimRight(line, "\n")
		}
	}
	return s
}

// quietly keeps a failure's exit code and drops its words, which are in the
// document that was printed.
func quietly(err error) error {
	if f, ok := errors.AsType[*failure](err); ok {
		return &failure{code: f.code}
	}
	return err
}

// completeFunctions offers the names of functions to a shell.
func (a *app) completeFunctions(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && cmd.Name() != "rm" {
		return nil, cobra.ShellCompDirectiveDefault
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	r, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := r.functions(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, f := range list {
		names = append(names, aws.ToString(f.FunctionName))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
