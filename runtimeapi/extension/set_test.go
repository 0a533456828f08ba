package extension

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const unknownID = "6b0dc1d4-8b5e-4e3a-9d0f-6f1f1e6b1a11"

func TestTransitionsAreThoseOfTheEmulator(t *testing.T) {
	for _, c := range []struct {
		from State
		step Step
		to   State
	}{
		{Started, StepRegister, Registered}, {Started, StepLaunchError, LaunchError}, {Started, StepExit, Exited},
		{Registered, StepNext, Ready}, {Registered, StepInitError, InitError}, {Registered, StepExitError, ExitError},
		{Ready, StepDeliver, Running}, {Ready, StepExitError, ExitError}, {Running, StepNext, Ready},
		{Running, StepExitError, ExitError}, {InitError, StepInitError, InitError}, {ExitError, StepExitError, ExitError},
		{Running, StepExit, Exited}, {InitError, StepExit, InitError},
	} {
		if to, err := c.from.After(c.step); err != nil || to != c.to {
			t.Errorf("%v by step %v: %v, %v; want %v", c.from, c.step, to, err, c.to)
		}
	}
	for _, c := range []struct {
		from State
		step Step
	}{
		{Registered, StepRegister}, {Ready, StepNext}, {Ready, StepInitError}, {Running, StepInitError}, {Started, StepNext},
		{Exited, StepNext}, {InitError, StepNext}, {ExitError, StepInitError}, {LaunchError, StepRegister}, {Exited, StepRegister},
	} {
		if to, err := c.from.After(c.step); err == nil || to != c.from {
			t.Errorf("%v by step %v: %v, and no error", c.from, c.step, to)
		}
	}
}

func TestRegistrationTellsWhichFunctionItIs(t *testing.T) {
	h := newHarness(t, "outer")
	a := h.ask("POST", Prefix+"register", `{"events":["INVOKE","SHUTDOWN"]}`, "Lambda-Extension-Name", "outer")
	if want := `{"functionName":"f","functionVersion":"$LATEST","handler":"index.handler"}`; a.status != 200 || compact(t, a.body) != want {
		t.Errorf("%d %s, want %s", a.status, a.body, want)
	}
	if id := a.header.Get("Lambda-Extension-Identifier"); len(id) != 36 {
		t.Errorf("identifier %q", id)
	}
	a = h.ask("POST", Prefix+"register", `{"events":["INVOKE"]}`, "Lambda-Extension-Name", "inner", "Lambda-Extension-Accept-Feature", "other, accountId")
	if want := `{"accountId":"123456789012","functionName":"f","functionVersion":"$LATEST","handler":"index.handler"}`; compact(t, a.body) != want {
		t.Errorf("with accountId: %s", a.body)
	}
}

func TestWhatCannotBeIsRefusedAsTheEmulatorRefusesIt(t *testing.T) {
	h := newHarness(t, "outer")
	id := h.register("outer", Invoke)
	h.register("inner")
	refused := func(what string, a answer, errorType, message string) {
		t.Helper()
		want := fmt.Sprintf(`{"errorMessage":%q,"errorType":%q}`, message, errorType)
		if a.status != http.StatusForbidden || compact(t, a.body) != want {
			t.Errorf("%s: %d %s, want %s", what, a.status, a.body, want)
		}
	}
	register := func(name, body string) answer {
		return h.ask("POST", Prefix+"register", body, "Lambda-Extension-Name", name)
	}
	post := func(path, id, errorType string) answer {
		header := []string{"Lambda-Extension-Function-Error-Type", errorType}
		if id != "" {
			header = append(header, "Lambda-Extension-Identifier", id)
		}
		return h.ask("POST", Prefix+path, "{}", header...)
	}
	refused("no name", h.ask("POST", Prefix+"register", `{}`), "Extension.InvalidExtensionName", "Empty extension name")
	refused("no JSON", register("x", "{"), "InvalidRequestFormat", "unexpected end of JSON input")
	refused("configuration", register("x", `{"configurationKeys":["a"]}`), "InvalidRequestFormat", "configurationKeys are deprecated; use environment variables instead")
	refused("odd event", register("x", `{"events":["BIRTH"]}`), "Extension.InvalidEventType", "BIRTH: ErrorInvalidEventType")
	refused("internal SHUTDOWN", register("x", `{"events":["SHUTDOWN"]}`), "Extension.InvalidEventType", "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension")
	refused("twice, internal", register("inner", `{}`), "Extension.InvalidExtensionState", "Extension with this name already registered")
	refused("twice, external", register("outer", `{}`), "Extension.InvalidExtensionState",
		"State transition from Registered to Registered failed for extension outer. Error: State transition is not allowed")
	refused("no identifier", h.ask("GET", Prefix+"event/next", ""), "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
	refused("odd identifier", post("init/error", "7", "X"), "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
	refused("unknown, next", h.ask("GET", Prefix+"event/next", "", "Lambda-Extension-Identifier", unknownID), "Extension.UnknownExtensionIdentifier", "Unknown extension "+unknownID)
	refused("unknown, error", post("exit/error", unknownID, "X"), "Extension.UnknownExtensionIdentifier", "Unknown Lambda-Extension-Identifier")
	refused("no error type", h.ask("POST", Prefix+"exit/error", "{}", "Lambda-Extension-Identifier", id), "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found")

	h.next(id)
	eventually(t, "it waits", func() bool { return h.stateOf("outer") == Ready })
	refused("next beside next", await(t, "the answer", h.next(id)), "Extension.InvalidExtensionState",
		"State transition from Ready to Ready failed for extension "+id+". Error: State transition is not allowed")
	refused("init/error after init", post("init/error", id, "X"), "Extension.InvalidExtensionState",
		"State transition from Ready to InitError failed for extension "+id+". Error: State transition is not allowed")

	h.set.Close()
	refused("too late", register("late", `{}`), "Extension.RegistrationClosed", "Extension registration closed already")
	if a := h.ask("GET", Prefix+"register", ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "POST" {
		t.Errorf("GET register: %d", a.status)
	}
	if a := h.ask("GET", Prefix+"nothing", ""); a.status != http.StatusNotFound {
		t.Errorf("an unknown path: %d", a.status)
	}
}

func TestTheEleventhExtensionIsRefused(t *testing.T) {
	h := newHarness(t, "outer")
	for i := range Limit - 1 {
		h.register(fmt.Sprint("inner", i))
	}
	a := h.ask("POST", Prefix+"register", "{}", "Lambda-Extension-Name", "eleventh")
	if want := `{"errorMessage":"Extension limit (10) reached","errorType":"Extension.TooManyExtensions"}`; a.status != 403 || compact(t, a.body) != want {
		t.Errorf("%d %s, want %s", a.status, a.body, want)
	}
}

func TestInitIsOverWhenTheRuntimeAndAllExtensionsAskedNext(t *testing.T) {
	h := newHarness(t, "outer")
	registered := h.set.Registration()
	if over(registered) {
		t.Error("registration is over before it began")
	}
	outer := h.register("outer", Invoke, Shutdown)
	await(t, "registration", registered)
	inner := h.register("inner") // for no event at all
	done := h.set.Init()
	h.runtime()
	await(t, "the runtime is ready", h.env.Ready())
	h.set.Close()
	h.next(outer)
	eventually(t, "outer waits", func() bool { return h.stateOf("outer") == Ready })
	if over(done) {
		t.Error("init is over without inner")
	}
	h.next(inner)
	await(t, "the end of init", done)
}

func TestAnInvocationIsOverWhenThoseWhoGotItAskedAgain(t *testing.T) {
	h := newHarness(t, "outer", "mute")
	outer, mute := h.register("outer", Invoke, Shutdown), h.register("mute", Shutdown)
	event, other := h.next(outer), h.next(mute)
	h.runtime()
	await(t, "init", h.set.Init())

	h.invoke("r1")
	settled := h.set.Settled()
	a := await(t, "the event", event)
	want := `{"eventType":"INVOKE","deadlineMs":1234,"requestId":"r1","invokedFunctionArn":"arn:aws:lambda:us-east-1:123456789012:function:f","tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1-2-3;Sampled=1"}}`
	if a.status != 200 || a.body != want || len(a.header.Get("Lambda-Extension-Event-Identifier")) != 36 {
		t.Errorf("the event is %d %s, want %s", a.status, a.body, want)
	}
	h.runtime()
	eventually(t, "the runtime is ready", h.set.runtime.Load)
	if over(settled) {
		t.Error("over while outer works")
	}
	event = h.next(outer)
	await(t, "the end of the invocation", settled)

	h.invoke("r2")
	settled = h.set.Settled()
	if a := await(t, "the second event", event); !strings.Contains(a.body, `"requestId":"r2"`) {
		t.Errorf("the second event is %s", a.body)
	}
	event = h.next(outer)
	eventually(t, "outer waits", func() bool { return h.stateOf("outer") == Ready })
	if over(settled) {
		t.Error("over while the runtime works")
	}
	h.runtime()
	await(t, "the end of the second", settled)
	if len(other) != 0 {
		t.Error("one that did not register for INVOKE got it")
	}

	// One gets its last event at once, one when it comes back.
	h.invoke("r3")
	await(t, "the third event", event)
	told := h.set.Shutdown("spindown", time.UnixMilli(99))
	if fmt.Sprint(told) != "[outer mute]" {
		t.Errorf("told %v", told)
	}
	last := `{"eventType":"SHUTDOWN","deadlineMs":99,"shutdownReason":"spindown"}`
	if a := await(t, "mute's end", other); a.body != last {
		t.Errorf("mute got %s", a.body)
	}
	if a := await(t, "outer's end", h.next(outer)); a.body != last {
		t.Errorf("outer got %s", a.body)
	}
}

func TestWhatAnExtensionReportedIsWhyItsEndFailsTheEnvironment(t *testing.T) {
	h := newHarness(t, "a", "b", "c")
	report := func(path, name string) {
		t.Helper()
		id := h.register(name)
		a := h.ask("POST", Prefix+path, "{}", "Lambda-Extension-Identifier", id, "Lambda-Extension-Function-Error-Type", "Extension.Own"+name)
		if a.status != http.StatusAccepted || compact(t, a.body) != `{"status":"OK"}` {
			t.Errorf("%s of %s: %d %s", path, name, a.status, a.body)
		}
	}
	if got, _ := h.set.Fault(); got != "" || over(h.set.Reported()) {
		t.Errorf("reported before anybody has: %q", got)
	}
	report("init/error", "a")
	await(t, "the report", h.set.Reported())
	report("exit/error", "b")
	if got, own := h.set.Fault(); got != TypeInitError || own != "Extension.Owna" {
		t.Errorf("the first fault is %q, %q", got, own)
	}
	for name, want := range map[string]string{"a": TypeInitError, "b": TypeExitError, "c": TypeCrash} {
		if got := h.set.Exit(name); got != want {
			t.Errorf("the end of %s is %s, want %s", name, got, want)
		}
	}
	if told := h.set.Shutdown("failure", time.Now()); told != nil {
		t.Errorf("those that have ended were told: %v", told)
	}
}

func TestAnExtensionThatWaitsIsLetGoWithTheEnvironment(t *testing.T) {
	h := newHarness(t, "outer")
	id := h.register("outer", Invoke, Shutdown)
	waiting := h.next(id)
	eventually(t, "it waits", func() bool { return h.stateOf("outer") == Ready })
	h.env.Fail(nil) // the runtime's end alone
	if over := h.set.Shutdown("failure", time.UnixMilli(7)); len(over) != 1 {
		t.Errorf("told %v", over)
	}
	if a := await(t, "the last event", waiting); a.status != 200 {
		t.Errorf("it got %d %s", a.status, a.body)
	}
	other := h.next(id)
	eventually(t, "it waits again", func() bool { return h.stateOf("outer") == Ready })
	if err := h.env.Close(); err != nil {
		t.Fatal(err)
	}
	if a := await(t, "its end", other); a.status == 200 {
		t.Errorf("it got %s", a.body)
	}
}
