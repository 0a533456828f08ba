package runtimes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth/runtimeapi"
)

// expectation is what one invocation, the first, must come to.
type expectation struct {
	name string
	given
	event   string // {} by default
	change  func(*runtimeapi.Event)
	answer  string // the payload
	errType string // of the report
	message string // a part of the report's message
	trace   string // a part of the report's stack trace
	log     string // a part of the output
	exit    int    // the client's exit status; 0 for one that lives
}

func (x expectation) check(t *testing.T, c Choice) {
	t.Helper()
	ch := start(t, c, x.given)
	event := x.event
	if event == "" {
		event = "{}"
	}
	change := x.change
	if change == nil {
		change = func(*runtimeapi.Event) {}
	}
	a := ch.invoke(event, change)
	if x.errType == "" {
		if a.String() != x.answer || a.ErrorType != "" {
			t.Errorf("answered %.500s, want %.500s\n%s", a, x.answer, ch.output.String())
		}
	} else {
		f := a.failure(t)
		if f.ErrorType != x.errType || !strings.Contains(f.ErrorMessage, x.message) {
			t.Errorf("failed with %s: %q, want %s: %q\n%s", f.ErrorType, f.ErrorMessage, x.errType, x.message, ch.output.String())
		}
		if trace := strings.Join(append(f.Trace, f.StackTrace...), "\n"); !strings.Contains(trace, x.trace) {
			t.Errorf("the trace lacks %q:\n%s", x.trace, trace)
		}
	}
	if x.exit != 0 {
		if got := ch.waitExit().ExitCode(); got != x.exit {
			t.Errorf("exit status %d, want %d\n%s", got, x.exit, ch.output.String())
		}
	} else if x.errType == "" || !strings.Contains(a.String(), "exit status") {
		select {
		case <-ch.exited:
			t.Errorf("the client ended: %v\n%s", ch.state, ch.output.String())
		default:
		}
	}
	ch.waitLog(x.log)
}

func js(source string) given {
	return given{files: map[string]string{"index.js": source}, handler: "index.handler"}
}

const requestOne = "8476a536-e9f4-11e8-9739-2dfe598c3f01"

func TestNodeHandlers(t *testing.T) {
	cases := []expectation{
		{name: "async", given: js(`exports.handler = async (e) => ({ got: e.x })`), event: `{"x":[1,"ü"]}`, answer: `{"got":[1,"ü"]}`},
		{name: "promise", given: js(`exports.handler = (e) => new Promise((r) => setTimeout(r, 5, 'later'))`), answer: `"later"`},
		{name: "callback", given: js(`exports.handler = (e, c, done) => { setTimeout(() => done(null, { n: 1 }), 5) }`), answer: `{"n":1}`},
		{name: "callback at once", given: js(`exports.handler = (e, c, done) => { done(null, 'a'); done(null, 'b') }`), answer: `"a"`},
		{name: "callback with an error", given: js(`exports.handler = (e, c, done) => done(new TypeError('no'))`), errType: "TypeError", message: "no", trace: "/var/task/index.js:1"},
		{name: "callback with a string", given: js(`exports.handler = (e, c, done) => done('no')`), errType: "string", message: "no"},
		{name: "undefined is null", given: js(`exports.handler = async () => {}`), answer: `null`},
		{name: "a function is null", given: js(`exports.handler = async () => () => 1`), answer: `null`},
		{name: "no answer is null", given: js(`exports.handler = () => {}`), answer: `null`},
		{name: "done", given: js(`exports.handler = (e, c) => { setTimeout(() => {}, 1e6); c.done(null, 1) }`), answer: `1`},
		{name: "succeed", given: js(`exports.handler = (e, c) => { setTimeout(() => {}, 1e6); c.succeed(2) }`), answer: `2`},
		{name: "fail", given: js(`exports.handler = (e, c) => { setTimeout(() => {}, 1e6); c.fail(new Error('f')) }`), errType: "Error", message: "f"},
		{name: "fail with nothing", given: js(`exports.handler = (e, c) => { c.fail() }`), errType: "string", message: "handled"},
		{name: "callback waits for the event loop", given: js(`exports.handler = (e, c, done) => { let s = 'early'; setTimeout(() => { s = 'late' }, 20); done(null, { toJSON: () => s }) }`), answer: `"late"`},
		{name: "callback that does not wait", given: js(`exports.handler = (e, c, done) => { let s = 'early'; c.callbackWaitsForEmptyEventLoop = false; setTimeout(() => { s = 'late' }, 1e6); done(null, { toJSON: () => s }) }`), answer: `"early"`},
		{name: "a promise that is never settled", given: js(`exports.handler = async () => { await new Promise(() => {}) }`), errType: "Runtime.NodeJsExit", message: "never settled"},

		{name: "nested folder", given: given{files: map[string]string{"a/b/f.js": `exports.h = async () => 'deep'`}, handler: "a/b/f.h"}, answer: `"deep"`},
		{name: "nested export", given: given{files: map[string]string{"f.js": `exports.a = { b: { c: async () => 'inner' } }`}, handler: "f.a.b.c"}, answer: `"inner"`},
		{name: "mjs", given: given{files: map[string]string{"index.mjs": "import fs from 'fs'\nexport const handler = async () => typeof fs.statSync"}, handler: "index.handler"}, answer: `"function"`},
		{name: "cjs", given: given{files: map[string]string{"index.cjs": "exports.handler = async () => 'cjs'"}, handler: "index.handler"}, answer: `"cjs"`},
		{name: "type module, top-level await", given: given{files: map[string]string{
			"package.json": `{"type":"module"}`, "other.js": "export const x = 5",
			"index.js": "const { x } = await import('./other.js')\nexport const handler = async () => x + await Promise.resolve(1)"}, handler: "index.handler"}, answer: `6`},
		{name: "type module above", given: given{files: map[string]string{
			"package.json": `{"type":"module"}`, "src/app.js": "export const handler = async () => import.meta.url"}, handler: "src/app.handler"}, answer: `"file:///var/task/src/app.js"`},
		{name: "folder with an index", given: given{files: map[string]string{"src/index.js": `exports.handler = async () => 'index'`}, handler: "src.handler"}, answer: `"index"`},
		{name: "node_modules", given: given{files: map[string]string{
			"node_modules/dep/package.json": `{"main":"lib/x.js"}`, "node_modules/dep/lib/x.js": `module.exports = 'dep'`,
			"index.js": `exports.handler = async () => require('dep')`}, handler: "index.handler"}, answer: `"dep"`},
		{name: "layer", given: given{files: map[string]string{"index.js": `exports.handler = async () => require('dep')`}, handler: "index.handler",
			layer: map[string]string{"nodejs/node_modules/dep/index.js": `module.exports = 'layer'`}}, answer: `"layer"`},
		{name: "handler in a layer", given: given{handler: "/opt/nodejs/node_modules/dep/index.h",
			layer: map[string]string{"nodejs/node_modules/dep/index.js": `exports.h = async () => process.cwd()`}}, answer: `"/var/task"`},

		{name: "throws", given: js("\nexports.handler = async () => { throw new RangeError('far') }"), errType: "RangeError", message: "far", trace: "at exports.handler (/var/task/index.js:2", log: requestOne + "\tERROR\tInvoke Error \t{\"errorType\":\"RangeError\",\"errorMessage\":\"far\",\"stack\":["},
		{name: "throws before its promise", given: js(`exports.handler = () => { throw new Error('sync') }`), errType: "Error", message: "sync"},
		{name: "throws a string", given: js(`exports.handler = async () => { throw 'text' }`), errType: "string", message: "text"},
		{name: "rejects with nothing", given: js(`exports.handler = async () => { throw undefined }`), errType: "string", message: "handled"},
		{name: "own error class", given: js(`class E extends Error { constructor (m) { super(m); this.name = 'E-✓' } }; exports.handler = async () => { throw new E('own') }`), errType: "E-✓", message: "own"},
		{name: "BigInt", given: js(`exports.handler = async () => 10n`), errType: "Error", message: "Unable to stringify response body"},
		{name: "circular", given: js(`exports.handler = async () => { const a = {}; a.a = a; return a }`), errType: "Error", message: "Unable to stringify response body"},

		{name: "missing module", given: js(`require('nowhere')`), errType: "Runtime.ImportModuleError", message: "Error: Cannot find module 'nowhere'\nRequire stack:\n- /var/task/index.js", trace: "Runtime.ImportModuleError: Cannot find module", exit: 1},
		{name: "missing file", given: given{handler: "index.handler"}, errType: "Runtime.ImportModuleError", message: "Error: Cannot find module 'index'", exit: 1},
		{name: "missing import", given: given{files: map[string]string{"index.mjs": "import 'nowhere'"}, handler: "index.handler"}, errType: "Error", message: "Cannot find package 'nowhere' imported from /var/task/index.mjs", exit: 1},
		{name: "missing handler", given: js(`exports.other = 1`), errType: "Runtime.HandlerNotFound", message: "index.handler is undefined or not exported", exit: 1},
		{name: "no function", given: js(`exports.handler = 'x'`), errType: "Runtime.HandlerNotFound", message: "index.handler is not a function", exit: 1},
		{name: "syntax error", given: js(`exports.handler = (`), errType: "Runtime.UserCodeSyntaxError", message: "SyntaxError: ", trace: "/var/task/index.js:1", exit: 1},
		{name: "import in a script", given: js(`import fs from 'fs'; exports.handler = 1; module.x = with_(1`), errType: "Runtime.UserCodeSyntaxError", message: "SyntaxError: ", exit: 1},
		{name: "no dot", given: given{handler: "index"}, errType: "Runtime.MalformedHandlerName", message: "Bad handler", exit: 1},
		{name: "dots", given: given{handler: "../x/index.handler"}, errType: "Runtime.MalformedHandlerName", message: "'../x/index.handler' is not a valid handler name. Use absolute paths when specifying root directories in handler names.", exit: 1},
		{name: "init throws", given: js(`throw new TypeError('at init')`), errType: "TypeError", message: "at init", trace: "/var/task/index.js:1", exit: 1, log: "\tundefined\tERROR\tUncaught Exception \t{\"errorType\":\"TypeError\""},
		{name: "init rejects", given: given{files: map[string]string{"index.mjs": "await Promise.reject(new TypeError('at init'))"}, handler: "index.handler"}, errType: "TypeError", message: "at init", exit: 1},

		{name: "init is never settled", given: given{files: map[string]string{"index.mjs": "await new Promise(() => {})"}, handler: "index.handler"}, errType: "Runtime.NodeJsExit", message: "never settled", exit: 1},

		{name: "unhandled rejection", given: js(`exports.handler = async () => { Promise.reject(new Error('lost')); await new Promise((r) => setTimeout(r, 1e6)) }`), errType: "Runtime.UnhandledPromiseRejection", message: "Error: lost", exit: 128, log: "Unhandled Promise Rejection"},
		{name: "uncaught exception", given: js(`exports.handler = async () => { setTimeout(() => { throw new TypeError('thrown') }); await new Promise((r) => setTimeout(r, 1e6)) }`), errType: "TypeError", message: "thrown", exit: 129, log: "Uncaught Exception"},
		{name: "process.exit", given: js(`exports.handler = async () => process.exit(3)`), errType: "Runtime.ExitError", message: "exit status 3", exit: 3},

		{name: "context", given: js(`exports.handler = async (e, c) => [c.functionName, c.functionVersion, c.memoryLimitInMB, c.logGroupName, c.logStreamName, c.awsRequestId, c.invokedFunctionArn, c.getRemainingTimeInMillis() > 9000, c.clientContext ?? 'none', c.identity ?? 'none', c.tenantId ?? 'none']`),
			answer: `["f","$LATEST","128","/aws/lambda/f","2024/01/01/[$LATEST]0123","` + requestOne + `","arn:aws:lambda:us-east-1:000000000000:function:f",true,"none","none","none"]`},
		{name: "context of a mobile caller", given: js(`exports.handler = async (e, c) => [c.clientContext.custom.k, c.identity.cognitoIdentityId, c.tenantId]`),
			change: func(ev *runtimeapi.Event) {
				ev.ClientContext, ev.CognitoID, ev.TenantID = `{"custom":{"k":"vü"}}`, `{"cognitoIdentityId":"i","cognitoIdentityPoolId":"p"}`, "blue"
			}, answer: `["vü","i","blue"]`},
		{name: "trace id", given: js(`exports.handler = async () => process.env._X_AMZN_TRACE_ID`), answer: `"Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0"`},
		{name: "no trace id", given: js(`exports.handler = async () => process.env._X_AMZN_TRACE_ID ?? 'none'`), change: func(ev *runtimeapi.Event) { ev.TraceID = "" }, answer: `"none"`},
		{name: "time zone", given: given{env: map[string]string{"TZ": "Asia/Tokyo"}, handler: "index.handler", files: map[string]string{
			"index.js": `exports.handler = async () => new Date(0).getHours() + ' ' + Intl.DateTimeFormat().resolvedOptions().timeZone`}}, answer: `"9 Asia/Tokyo"`},
		{name: "time zone of the service", given: js(`exports.handler = async () => new Date(0).getHours()`), answer: `0`},
		{name: "NODE_PATH of the function", given: given{env: map[string]string{"NODE_PATH": "/opt/mine"}, handler: "index.handler",
			layer: map[string]string{"mine/dep.js": `module.exports = 'mine'`}, files: map[string]string{"index.js": `exports.handler = async () => require('dep')`}}, answer: `"mine"`},
		{name: "nothing of the boot's environment", given: given{handler: "index.handler", env: map[string]string{"A": "1=2\nü"}, files: map[string]string{
			"index.js": `exports.handler = async () => [process.env.A, process.env.LANG, process.env.HEARTH_TEST_DIR ?? null, process.env._LAMBDA_TELEMETRY_LOG_FD ?? null]`}}, answer: `["1=2\nü","en_US.UTF-8",null,null]`},
		{name: "network", given: js(`const http = require('http'); exports.handler = () => new Promise((ok, bad) => { const s = http.createServer((q, r) => r.end('served')).listen(0, () => { http.get({ port: s.address().port, agent: false }, (r) => { r.on('data', (d) => { s.close(); ok(String(d)) }) }) }) })`), answer: `"served"`},
		{name: "lone surrogate", given: js(`exports.handler = async (e) => e.s.charCodeAt(0) + '\ud800'`), event: `{"s":"\ud83d\ude00"}`, answer: `"55357\ud800"`},
	}
	for _, c := range choices(t, Node) {
		for i, x := range cases {
			for _, unbooted := range []bool{false, true} {
				if unbooted && i%4 != 0 {
					continue // a sample: only the start differs
				}
				x.unbooted = unbooted
				if c.interpreter.Version.Major >= 24 {
					x.runtime = "nodejs22.x" // for the ways to answer that nodejs24.x has no more
				}
				name := fmt.Sprintf("%s/%s", c.Boot(), x.name)
				if unbooted {
					name += "/unbooted"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					x.check(t, c)
				})
			}
		}
	}
}

func TestNode24HandlersAnswerOnlyByPromise(t *testing.T) {
	for _, x := range []expectation{
		{name: "value", given: js(`exports.handler = (e, c) => [c.done === undefined, 'callbackWaitsForEmptyEventLoop' in c]`), answer: `[true,false]`},
		{name: "callback", given: js(`exports.handler = (e, c, done) => done(null, 1)`), errType: "Runtime.CallbackHandlerDeprecated", message: "removed support for callback-based", exit: 1},
	} {
		t.Run(x.name, func(t *testing.T) {
			x.runtime = "nodejs24.x"
			x.check(t, choices(t, Node)[0])
		})
	}
}

func TestUnbootedProcessesObeyWhatIsReadAtBoot(t *testing.T) {
	wrapper := map[string]string{"wrap": "#!/bin/sh\nexport WRAPPED=yes\nexec \"$@\"\n"}
	wrapped := map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrap"}
	for _, x := range []struct {
		c Choice
		expectation
	}{
		{choices(t, Node)[0], expectation{name: "NODE_OPTIONS", answer: `true`, given: given{env: map[string]string{"NODE_OPTIONS": "--no-deprecation"},
			files: map[string]string{"index.js": "exports.handler = async () => process.noDeprecation"}, handler: "index.handler"}}},
		{choices(t, Node)[0], expectation{name: "wrapper of node", answer: `"yes"`, given: given{env: wrapped, layer: wrapper,
			files: map[string]string{"index.js": "exports.handler = async () => process.env.WRAPPED"}, handler: "index.handler"}}},
		{choices(t, Python)[0], expectation{name: "wrapper of python", answer: `"yes"`, given: given{env: wrapped, layer: wrapper,
			files: map[string]string{"app.py": "import os\ndef handler(e, c): return os.environ['WRAPPED']"}, handler: "app.handler"}}},
		{choices(t, Python)[0], expectation{name: "PYTHONHASHSEED", answer: `true`, given: given{env: map[string]string{"PYTHONHASHSEED": "0"},
			files: map[string]string{"app.py": "import sys\ndef handler(e, c): return sys.flags.hash_randomization == 0"}, handler: "app.handler"}}},
	} {
		t.Run(x.name, func(t *testing.T) {
			if _, needs := x.c.NeedsUnbooted(x.env); !needs {
				t.Error("it is not known to need an unbooted process")
			}
			x.unbooted = true
			x.check(t, x.c)
		})
	}
}

// A native library of the package or a layer is found although its folder was
// not there when the dynamic loader started.
func TestLibrariesThatComeAfterTheBootAreFound(t *testing.T) {
	var library string
	for _, dir := range systemDirs() {
		if data, err := os.ReadFile(filepath.Join(dir, "libz.so.1")); err == nil {
			library = string(data)
		}
	}
	if library == "" {
		t.Fatal("no libz.so.1 in the system's folders to test with")
	}
	for _, c := range choices(t, Python) {
		expectation{
			given: given{late: true, handler: "app.handler", layer: map[string]string{"lib/libhearthlayer.so": library},
				files: map[string]string{"lib/libhearthtask.so": library,
					"app.py": "import ctypes\ndef handler(e, c): return [ctypes.CDLL('libhearth' + n + '.so').zlibCompileFlags() > 0 for n in ('task', 'layer')]"}},
			answer: `[true, true]`,
		}.check(t, c)
	}
}

func TestNodeErrorsTellTheirCause(t *testing.T) {
	ch := start(t, choices(t, Node)[0], js(`exports.handler = async () => { throw new Error('outer', { cause: new TypeError('inner') }) }`))
	f := ch.invoke(`{}`).failure(t)
	if f.Cause == nil || f.Cause.ErrorType != "TypeError" || f.Cause.ErrorMessage != "inner" {
		t.Errorf("cause is %+v", f.Cause)
	}
}

func TestNodeServesOneInvocationAfterAnother(t *testing.T) {
	ch := start(t, choices(t, Node)[0], js(`let n = 0; exports.handler = async (e) => { n++; if (e.fail) throw new Error('x'); return n }`))
	for i := 1; i <= 50; i++ {
		event, want := `{}`, fmt.Sprint(i)
		if i%3 == 0 {
			event, want = `{"fail":true}`, `"errorMessage":"x"`
		}
		if a := ch.invoke(event); !strings.Contains(a.String(), want) {
			t.Fatalf("invocation %d: %s", i, a)
		}
	}
}

func TestNodeGoesOnWithTimersOfThePreviousInvocation(t *testing.T) {
	ch := start(t, choices(t, Node)[0], js(`let fired = 0; exports.handler = async (e) => { if (e.start) setTimeout(() => { fired++; console.log('fired') }, 10); return fired }`))
	ch.invoke(`{"start":true}`)
	waitFor(t, func() bool { return strings.Contains(ch.output.String(), "fired") })
	if a := ch.invoke(`{}`); a.String() != "1" {
		t.Errorf("fired %s times", a)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

func TestHugePayloadsPass(t *testing.T) {
	text := strings.Repeat("é", 900_000) // six bytes each where a client escapes them
	event, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range append(choices(t, Node)[:1], choices(t, Python)...) {
		t.Run(string(c.Boot()), func(t *testing.T) {
			g := js(`exports.handler = async (e) => e.n ? 'x'.repeat(e.n) : e`)
			if c.interpreter.Language == Python {
				g = py("def handler(e, c):\n  return 'x' * e['n'] if isinstance(e, dict) else e")
			}
			ch := start(t, c, g)
			a := ch.invoke(string(event))
			var back string
			if err := json.Unmarshal(a.Payload, &back); err != nil || back != text {
				t.Errorf("echo of %d bytes came back as %d: %v", len(text), len(back), a.err)
			}
			if f := ch.invoke(`{"n":7000000}`).failure(t); f.ErrorType != runtimeapi.TypeTooLarge {
				t.Errorf("7 MB: %+v", f)
			}
			if a := ch.invoke(`{"n":3}`); a.String() != `"xxx"` {
				t.Errorf("after it: %s", a)
			}
		})
	}
}

// streamed collects a streamed response.
type streamed struct {
	contentType string
	bytes.Buffer
}

func (s *streamed) Start(contentType string, _ time.Time) error {
	s.contentType = contentType
	return nil
}

func TestNodeStreams(t *testing.T) {
	for _, x := range []struct {
		name, source, contentType, body, errType string
	}{
		{"chunks", `exports.handler = awslambda.streamifyResponse(async (e, s, c) => { s.setContentType('text/plain'); s.write('a'); await new Promise((r) => setTimeout(r, 5)); s.write(Buffer.from('b')); s.write({ c: c.awsRequestId.length }); s.end() })`, "text/plain", `ab{"c":36}`, ""},
		{"default type", `exports.handler = awslambda.streamifyResponse(async (e, s) => { s.end('x') })`, "application/octet-stream", "x", ""},
		{"nothing", `exports.handler = awslambda.streamifyResponse(async (e, s) => { s.end() })`, "application/octet-stream", "", ""},
		{"never ended", `exports.handler = awslambda.streamifyResponse(async (e, s) => { s.write('y') })`, "application/octet-stream", "y", ""},
		{"much", `exports.handler = awslambda.streamifyResponse(async (e, s) => { const { pipeline } = require('stream/promises'); await pipeline(async function * () { for (let i = 0; i < 200; i++) yield 'z'.repeat(50000) }, s) })`, "application/octet-stream", strings.Repeat("z", 10_000_000), ""},
		{"integration", `exports.handler = awslambda.streamifyResponse(async (e, s) => { s = awslambda.HttpResponseStream.from(s, { statusCode: 201 }); s.write('body'); s.end() })`, "application/vnd.awslambda.http-integration-response", `{"statusCode":201}` + strings.Repeat("\x00", 8) + "body", ""},
		{"error before the first byte", `exports.handler = awslambda.streamifyResponse(async () => { throw new TypeError('early') })`, "", "", "TypeError"},
		{"error after it", `exports.handler = awslambda.streamifyResponse(async (e, s) => { s.write('part'); await new Promise((r) => setTimeout(r, 5)); throw new TypeError('late') })`, "application/octet-stream", "part", "TypeError"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			ch := start(t, choices(t, Node)[0], js(x.source))
			for range 3 {
				s := &streamed{}
				a := ch.invoke(`{}`, func(ev *runtimeapi.Event) { ev.Stream = s })
				if s.contentType != x.contentType || s.String() != x.body || (a.ErrorType != "") != (x.errType != "") || a.err != nil {
					t.Fatalf("%q %.100q (%d bytes) error %q: %s\n%s", s.contentType, s.String(), s.Len(), a.ErrorType, a, ch.output.String())
				}
				if x.errType != "" {
					if f := a.failure(t); f.ErrorType != x.errType {
						t.Errorf("report %+v", f)
					}
				}
			}
		})
	}
}
