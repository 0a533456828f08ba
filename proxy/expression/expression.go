// Package expression evaluates the expressions of mapping definitions.
//
// The language is CEL (Common Expression Language): it has no loops but over
// what is there, no input and output, no clock and no environment, is checked
// when it is compiled, and its evaluation is bounded in steps and memory. An
// expression is data: what it may come to is decided here, not by who wrote it.
package expression

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"
)

// The bounds of one evaluation and of what is compiled.
const (
	// MaxText is how long an expression may be, in bytes.
	MaxText = 16 << 10
	// maxCost bounds the steps of one evaluation, in the units of CEL's cost
	// model: about one for each operation and each ten bytes of text.
	maxCost = 4_000_000
	// maxMemory bounds the values that one evaluation holds at a time, in
	// elements of lists and maps and bytes of text.
	maxMemory = 4 << 20
	// maxTime is how long one evaluation may take. Cost ends it first, unless
	// the machine is very slow.
	maxTime = 5 * time.Second
	// maxNesting bounds how deep expressions nest.
	maxNesting = 100
)

// Kind is what an expression is to come to.
type Kind int

// The kinds.
const (
	Any Kind = iota
	Bool
	Int
	Text
	Map // or null
)

// String names the kind for error messages.
func (k Kind) String() string {
	return [...]string{"any value", "true or false", "a whole number", "a text", "a map, or null"}[k]
}

// Env is the variables that expressions have. Safe for concurrent use.
type Env struct{ env func() (*cel.Env, error) }

// NewEnv makes an Env with these variables, whose values are of any type. What
// it takes to compile is made at the first use.
func NewEnv(variables ...string) *Env {
	return &Env{sync.OnceValues(func() (*cel.Env, error) {
		opts := []cel.EnvOption{
			cel.OptionalTypes(), cel.CrossTypeNumericComparisons(true),
			cel.ParserExpressionSizeLimit(MaxText), cel.ParserRecursionLimit(maxNesting),
		}
		opts = append(opts, functions()...)
		for _, v := range variables {
			opts = append(opts, cel.Variable(v, cel.DynType))
		}
		return cel.NewEnv(opts...)
	})}
}

// Error says what is wrong with an expression's text. Line and Column count
// from 1; Line 0 is of the whole.
type Error struct {
	Line, Column int
	Message      string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// Expression is one that was compiled. Safe for concurrent use.
type Expression struct {
	text    string
	kind    Kind
	program cel.Program
}

// String is the expression's text.
func (x *Expression) String() string { return x.text }

// Compile checks an expression that is to come to a value of the kind. What is
// wrong with it is an *Error.
func (e *Env) Compile(text string, kind Kind) (*Expression, error) {
	if len(text) > MaxText {
		return nil, &Error{Message: fmt.Sprintf("it has %d bytes; at most %d are allowed", len(text), MaxText)}
	}
	if strings.TrimSpace(text) == "" {
		return nil, &Error{Message: "it is empty"}
	}
	env, err := e.env()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(text)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		message := strings.TrimPrefix(first.Message, "Syntax error: ")
		if i := strings.Index(message, " expecting {"); i >= 0 { // all tokens of the language
			message = message[:i]
		}
		if len(message) > 500 {
			message = message[:500] + "…"
		}
		return nil, &Error{Line: max(first.Location.Line(), 1), Column: first.Location.Column() + 1, Message: message}
	}
	if t := ast.OutputType(); !kind.takes(t) {
		return nil, &Error{Line: 1, Column: 1, Message: fmt.Sprintf("it comes to %.80s, where %s is wanted", t, kind)}
	}
	program, err := env.Program(ast,
		cel.CostLimit(maxCost), cel.MemoryLimit(maxMemory), memory, cel.CostTracking(costs{}), cel.InterruptCheckFrequency(100))
	if err != nil { // such as a regular expression that is none
		return nil, &Error{Message: err.Error()}
	}
	return &Expression{text, kind, program}, nil
}

// memory is how the values of an evaluation are measured: by CEL's own bounds
// what nests deeper than 5 levels, or has more than 10,000 values, would count as
// too large. In loops, whose steps are many, few of them are measured, since that
// takes time by the size of the value: what steps make is bounded by their cost,
// and what a loop comes to is measured always.
var memory = cel.MemoryTracking(
	types.MemoryTrackerSizeCalculator(types.NewSizeCalculator(
		types.SizeCalculatorMaxDepth(2*MaxDepth),     // of what there is, in what is made of it
		types.SizeCalculatorMaxTraversal(2*maxNodes), // a map has keys, too
		types.SizeCalculatorStringUnitLength(1),
	)),
	types.MemoryTrackerSampleInterval(4096),
)

// takes tells whether a value of the type may be one of the kind.
func (k Kind) takes(t *cel.Type) bool {
	if k == Any || t.Kind() == types.DynKind || t.Kind() == types.AnyKind || t.TypeName() == "optional_type" {
		return true
	}
	switch k {
	case Bool:
		return t.Kind() == types.BoolKind
	case Int:
		return t.Kind() == types.IntKind
	case Text:
		return t.Kind() == types.StringKind
	default:
		return t.Kind() == types.MapKind || t.Kind() == types.NullTypeKind
	}
}

// ErrBounds says that an evaluation was ended by its bounds.
var ErrBounds = errors.New("it takes too many steps, too much memory or too long")

// Eval evaluates the expression. The value is as Plain makes it: nil, bool,
// int64, float64, string, []any and map[string]any. An error is a sentence about
// the expression or the values; ErrBounds if a bound ended it.
func (x *Expression) Eval(ctx context.Context, variables map[string]any) (any, error) {
	bounded, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	out, _, err := x.program.ContextEval(bounded, variables)
	if err != nil {
		var ended interpreter.EvalCancelledError
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.As(err, &ended) || bounded.Err() != nil:
			return nil, ErrBounds
		}
		return nil, errors.New(err.Error()) // as CEL words it, without its types
	}
	v, err := plain(out)
	if err != nil {
		return nil, err
	}
	return v, x.check(v)
}

func (x *Expression) check(v any) error {
	ok := true
	switch x.kind {
	case Bool:
		_, ok = v.(bool)
	case Int:
		_, ok = v.(int64)
	case Text:
		_, ok = v.(string)
	case Map:
		_, ok = v.(map[string]any)
		ok = ok || v == nil
	}
	if !ok {
		return fmt.Errorf("it comes to %s, where %s is wanted", name(v), x.kind)
	}
	return nil
}

// name says what sort of value it is.
func name(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "true or false"
	case int64:
		return "a whole number"
	case float64:
		return "a number"
	case string:
		return "a text"
	case []any:
		return "a list"
	default:
		return "a map"
	}
}
