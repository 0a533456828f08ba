package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
	"github.com/spf13/cobra"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

// Exit codes, which the help of the root command lists too.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitFunction    = 3
	exitInterrupted = 130
)

// failure is an error as a person should read it: the thing, the reason and
// the way out, one sentence each.
type failure struct {
	thing  string // what could not be done
	reason string // why; "" if thing says it all
	way    string // what to do about it; "" if nobody knows
	code   int
	cause  error
	// missing is that there is not what was named: the command says where to
	// look for what there is.
	missing bool
}

func (f *failure) Error() string {
	if f.reason == "" {
		return f.thing
	}
	return f.thing + ": " + f.reason
}

func (f *failure) Unwrap() error { return f.cause }

// failed makes a failure of code 1 whose reason is err's.
func failed(thing string, err error, way string) *failure {
	return &failure{thing: thing, reason: reason(err), way: way, code: exitFailed, cause: err}
}

// refused is a failure of code 1 without another error behind it.
func refused(thing, way string) *failure {
	return &failure{thing: thing, way: way, code: exitFailed}
}

// usage is a failure of the one who typed.
func usage(thing, way string) *failure {
	return &failure{thing: thing, way: way, code: exitUsage}
}

// asFailure finds the failure in err or makes one of it.
func asFailure(err error, command string) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if strings.HasPrefix(err.Error(), "unknown command") { // cobra has no type for it
		return usage(strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", " "), "hearth --help lists the commands.")
	}
	return failed(command+" failed", err, "")
}

func (f *failure) print(a *app) {
	if f.thing == "" {
		return // it has been said; only the exit code is left
	}
	if a.json {
		// The document goes where errors go: standard output has results only.
		enc := json.NewEncoder(a.err)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(map[string]any{"error": map[string]any{ // nowhere is left to report to
			"message": f.thing, "reason": f.reason, "wayOut": f.way, "exitCode": f.code,
		}})
		return
	}
	fmt.Fprintf(a.err, "%s %s\n", a.red("hearth:"), sentence(f.Error()))
	if f.way != "" {
		fmt.Fprintf(a.err, "        %s\n", f.way)
	}
}

// sentence ends s with a full stop if nothing else ends it.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" || strings.ContainsAny(s[len(s)-1:], ".!?)\"") {
		return s
	}
	return s + "."
}

// reason is err without the layers that only its authors know.
func reason(err error) string {
	if err == nil {
		return ""
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && api.ErrorMessage() != "" {
		return api.ErrorMessage()
	}
	if f, ok := errors.AsType[*control.Failure](err); ok {
		return f.Message
	}
	if h, ok := errors.AsType[*hearth.Error](err); ok && h.Message != "" {
		return h.Message
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "it took too long"
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		return "the server closed the connection before it had answered"
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err.Error()
	}
	return err.Error()
}

// remoteFailure is what a call to the server came to, with the way out that
// its kind suggests.
func (r *remote) failure(thing string, err error) error {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return &failure{
			thing: thing, reason: "nothing answers at " + r.endpoint, code: exitFailed, cause: err,
			way: "Start a server with: hearth up" + r.dataFlag(),
		}
	}
	way := ""
	switch errorName(err) {
	case string(hearth.NotFound), string(hearth.NoSuchEntity):
		f := failed(thing, err, "")
		f.missing = true
		return f
	case string(hearth.UnrecognizedClient), string(hearth.InvalidSignature), string(hearth.MissingToken):
		way = `The credentials are not this server's; take them with: eval "$(hearth env` + r.dataFlag() + `)"`
	case string(hearth.TooManyRequests):
		way = "Wait for running invocations to end, or start the server with a higher --concurrency."
		if e, ok := errors.AsType[*types.TooManyRequestsException](err); ok && (e.Reason == hearth.ReasonReservedConcurrency || e.Reason == hearth.ReasonReservedRate) {
			way = "It is a limit of its own: the function's, or what its owner allows this account."
		}
	case string(hearth.InvalidRuntime):
		way = "hearth runtimes shows what runs here."
	}
	return failed(thing, err, way)
}

// errorName is the API's name for what went wrong; "" if err is not its.
func errorName(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	if f, ok := errors.AsType[*control.Failure](err); ok {
		return string(f.Kind)
	}
	return ""
}

// valid makes a wrong argument an error of usage.
func valid(cmd *cobra.Command, ok bool, thing string) error {
	if ok {
		return nil
	}
	return usage(thing, "See "+cmd.CommandPath()+" --help.")
}
