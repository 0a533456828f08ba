package durable

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth"
)

// apply makes one checkpoint of an execution that the updates before made.
func applied(t *testing.T, before []Update, updates ...Update) (*change, error) {
	t.Helper()
	s := &execSetup{random: func([]byte) {}, resolve: func(hearth.Account, string) (*hearth.Function, error) {
		return &hearth.Function{Version: "1"}, nil
	}}
	c := start(Begin{Function: &hearth.Function{Account: account, Region: "r", Name: "f", Version: "1", Durable: &hearth.Durable{ExecutionTimeout: 1e18}}, Input: "{}", MaxResult: 100}, began, s)
	c.settle()
	x := c.x
	x.apply(c)
	for _, u := range before {
		c := x.begin(x.Started, s)
		if u.Type == "" { // time passes
			c.now = c.now.AddDate(0, 0, 1)
			c.fire()
		} else if _, err := c.checkpoint(x.token(), "", []Update{u}); err != nil {
			t.Fatalf("%+v: %v", u, err)
		}
		x.apply(c)
	}
	c = x.begin(x.Started, s)
	_, err := c.checkpoint(x.token(), "", updates)
	return c, err
}

// What can be said of an operation depends on its type and on how far it is.
func TestTransitions(t *testing.T) {
	u := func(typ Type, action Action) Update {
		u := Update{ID: "o", Type: typ, Action: action}
		switch {
		case action == Retry:
			u.NextAttempt = new(1)
		case typ == TypeWait && action == Start:
			u.Wait = new(1)
		case typ == TypeChainedInvoke:
			u.Function = "g"
		}
		return u
	}
	later := Update{}
	steps := map[string][]Update{ // how a step comes to be in each status
		"":          nil,
		"STARTED":   {u(TypeStep, Start)},
		"PENDING":   {u(TypeStep, Retry)},
		"READY":     {u(TypeStep, Retry), later},
		"SUCCEEDED": {u(TypeStep, Succeed)},
		"FAILED":    {u(TypeStep, Fail)},
	}
	for _, c := range []struct {
		before []Update
		update Update
		want   string // of the error; else the status
	}{
		{steps[""], u(TypeStep, Start), "STARTED"},
		{steps[""], u(TypeStep, Succeed), "SUCCEEDED"},
		{steps[""], u(TypeStep, Fail), "FAILED"},
		{steps[""], u(TypeStep, Retry), "PENDING"},
		{steps[""], u(TypeStep, Cancel), "Invalid action for the given operation type."},
		{steps["STARTED"], u(TypeStep, Start), "Invalid current STEP state to start."},
		{steps["STARTED"], u(TypeStep, Succeed), "SUCCEEDED"},
		{steps["STARTED"], u(TypeStep, Retry), "PENDING"},
		{steps["PENDING"], u(TypeStep, Start), "Invalid current STEP state to start."},
		{steps["PENDING"], u(TypeStep, Succeed), "Invalid current STEP state to close."},
		{steps["PENDING"], u(TypeStep, Retry), "Invalid current STEP state to re-attempt."},
		{steps["READY"], u(TypeStep, Start), "STARTED"},
		{steps["READY"], u(TypeStep, Succeed), "SUCCEEDED"},
		{steps["READY"], u(TypeStep, Retry), "PENDING"},
		{steps["SUCCEEDED"], u(TypeStep, Start), "Invalid current STEP state to start."},
		{steps["SUCCEEDED"], u(TypeStep, Fail), "Invalid current STEP state to close."},
		{steps["FAILED"], u(TypeStep, Succeed), "Invalid current STEP state to close."},
		{steps["STARTED"], u(TypeWait, Start), "Inconsistent operation type."},
		{nil, u(TypeContext, Start), "STARTED"},
		{nil, u(TypeContext, Succeed), "SUCCEEDED"},
		{nil, u(TypeContext, Retry), "Invalid action for the given operation type."},
		{[]Update{u(TypeContext, Start)}, u(TypeContext, Start), "Cannot start a CONTEXT that already exist."},
		{[]Update{u(TypeContext, Start)}, u(TypeContext, Fail), "FAILED"},
		{[]Update{u(TypeContext, Fail)}, u(TypeContext, Succeed), "Invalid current CONTEXT state to close."},
		{nil, u(TypeWait, Start), "STARTED"},
		{nil, u(TypeWait, Cancel), "Cannot cancel a WAIT that does not exist or has already completed."},
		{[]Update{u(TypeWait, Start)}, u(TypeWait, Start), "Cannot start a WAIT that already exist."},
		{[]Update{u(TypeWait, Start)}, u(TypeWait, Cancel), "CANCELLED"},
		{[]Update{u(TypeWait, Start), later}, u(TypeWait, Cancel), "Cannot cancel a WAIT that does not exist or has already completed."},
		{nil, Update{ID: "o", Type: TypeWait, Action: Start}, "Update for WAIT operation requires WaitOptions."},
		{nil, u(TypeCallback, Start), "STARTED"},
		{nil, u(TypeCallback, Succeed), "Invalid action for the given operation type."},
		{[]Update{u(TypeCallback, Start)}, u(TypeCallback, Start), "Cannot start a CALLBACK that already exist."},
		{nil, u(TypeChainedInvoke, Start), "STARTED"},
		{[]Update{u(TypeChainedInvoke, Start)}, u(TypeChainedInvoke, Start), "Cannot start a CHAINED_INVOKE that already exist."},
		{nil, Update{ID: "o", Type: TypeChainedInvoke, Action: Start}, "Update for CHAINED_INVOKE operation requires ChainedInvokeOptions."},
		{nil, Update{ID: "o", Type: "DREAM", Action: Start}, "Unknown operation type."},
		{nil, Update{ID: "o", Type: TypeExecution, Action: Start}, "Invalid action for the given operation type."},
	} {
		ch, err := applied(t, c.before, c.update)
		got := fmt.Sprint(err)
		if e, ok := asError(err); ok {
			got = e.Message
		} else if err == nil {
			got = string(ch.find("o").Status)
		}
		if got != c.want {
			t.Errorf("%v, then %s %s: %s, want %s", c.before, c.update.Action, c.update.Type, got, c.want)
		}
	}
}

func TestUpdatesThatBreakARuleAreRefused(t *testing.T) {
	step := func(id string, a Action) Update { return Update{ID: id, Type: TypeStep, Action: a} }
	big, huge := strings.Repeat("x", maxPayload+1), strings.Repeat("x", maxChained+1)
	for want, updates := range map[string][]Update{
		"Cannot update the same operation twice in a single request.":                    {step("a", Succeed), step("a", Fail)},
		"Cannot checkpoint multiple EXECUTION updates.":                                  {{Type: TypeExecution, Action: Succeed}, {Type: TypeExecution, Action: Succeed}},
		"EXECUTION checkpoint must be the last update.":                                  {{Type: TypeExecution, Action: Succeed}, step("a", Start)},
		"Invalid parent operation id.":                                                   {step("a", Start), {ID: "b", ParentID: "a", Type: TypeStep, Action: Start}},
		"Cannot provide an Error for SUCCEED action.":                                    {{ID: "a", Type: TypeStep, Action: Succeed, Error: &Error{}}},
		"Cannot provide a Payload for FAIL action.":                                      {{ID: "a", Type: TypeStep, Action: Fail, Payload: new("1")}},
		"Cannot provide both error and payload to RETRY a STEP.":                         {{ID: "a", Type: TypeStep, Action: Retry, Payload: new("1"), Error: &Error{}, NextAttempt: new(1)}},
		"Invalid StepOptions for the given action.":                                      {step("a", Retry)},
		"Error object size must be less than 32768 bytes.":                               {{ID: "a", Type: TypeStep, Action: Fail, Error: failure("", big)}},
		"STEP output payload size must be less than or equal to 262144 bytes.":           {{ID: "a", Type: TypeStep, Action: Succeed, Payload: &big}},
		"CHAINED_INVOKE input payload size must be less than or equal to 1048576 bytes.": {{ID: "a", Type: TypeChainedInvoke, Action: Start, Function: "g", Payload: &huge}},
		"Execution output payload size must be less than or equal to 100 bytes.":         {{Type: TypeExecution, Action: Succeed, Payload: &big}},
		"Inconsistent operation name.":                                                   {{ID: "a", Type: TypeContext, Action: Start, Name: "n"}, {ID: "a", Type: TypeContext, Action: Succeed, Name: "m"}},
		"Inconsistent operation subtype.":                                                {{ID: "a", Type: TypeContext, Action: Start, SubType: "n"}, {ID: "a", Type: TypeContext, Action: Succeed, SubType: "m"}},
		"Inconsistent parent operation id.":                                              {{ID: "c", Type: TypeContext, Action: Start}, {ID: "a", Type: TypeContext, Action: Start, ParentID: "c"}, {ID: "a", Type: TypeContext, Action: Succeed}},
	} {
		_, err := applied(t, nil, updates...)
		if e, ok := asError(err); !ok || e.Kind != hearth.InvalidParameter || e.Message != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	var many []Update
	for i := range maxOperations {
		many = append(many, step(fmt.Sprint(i), Start))
	}
	if _, err := applied(t, nil, many[:maxOperations-1]...); err != nil {
		t.Error(err)
	}
	if _, err := applied(t, nil, many...); err == nil {
		t.Error("there is no limit of operations")
	}
}

func TestAnExecutionMayEndByACheckpoint(t *testing.T) {
	c, err := applied(t, nil, Update{ID: "execution-result-1", Type: TypeExecution, Action: Succeed, Payload: new("1")})
	if err != nil || c.record.Status != Succeeded || c.find("execution-result-1") != nil || !c.ended {
		t.Errorf("%v %+v", err, c.record)
	}
}

func FuzzNamesAreReadBackOrRefused(f *testing.F) {
	f.Add("arn:aws:lambda:us-east-1:000000000000:function:f:1/durable-execution/n/019a")
	f.Add(token{"019aa000-0000-7000-8000-000000000000", "0123456789abcdef", 3, 4}.String())
	f.Add(callback{account, "f", "id", "op", "aa"}.String())
	f.Add(marker(7))
	f.Add(`{"Status":"SUCCEEDED","Result":"1"}`)
	f.Fuzz(func(t *testing.T, s string) {
		if tok, ok := parseToken(s); ok && tok.String() != s {
			t.Errorf("token %q is read as %+v", s, tok)
		}
		if c, ok := parseCallback(s); ok && c.String() != s {
			t.Errorf("callback %q is read as %+v", s, c)
		}
		if a, ok := ParseARN(s); ok {
			r := record{Region: a.Region, Account: a.Account, Function: a.Function, Version: a.Version, Name: a.Name, ID: a.ID}
			if _, tail, _ := strings.Cut(s, ":lambda:"); !strings.HasSuffix(r.arn(), tail) {
				t.Errorf("ARN %q is read as %+v", s, a)
			}
		}
		if n, err := parseMarker(s); err == nil && n < -1 {
			t.Errorf("marker %q is %d", s, n)
		}
		_, _ = parseOutput([]byte(s))
		_ = parseFunctionError(&hearth.Result{Payload: []byte(s), FunctionError: "Unhandled"})
	})
}
