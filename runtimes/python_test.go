package runtimes

import (
	"fmt"
	"testing"

	"github.com/hearth-faas/hearth/runtimeapi"
)

func py(source string) given {
	return given{files: map[string]string{"app.py": source}, handler: "app.handler"}
}

func TestPythonHandlers(t *testing.T) {
	cases := []expectation{
		{name: "value", given: py("def handler(e, c):\n    return {'got': e['x']}"), event: `{"x":[1,null,true]}`, answer: `{"got": [1, null, true]}`},
		{name: "nothing is null", given: py("def handler(e, c): pass"), answer: `null`},
		{name: "package", given: given{files: map[string]string{"pkg/__init__.py": "", "pkg/sub/mod.py": "def f(e, c): return __name__"}, handler: "pkg/sub/mod.f"}, answer: `"pkg.sub.mod"`},
		{name: "dotted package", given: given{files: map[string]string{"pkg/mod.py": "def f(e, c): return __file__"}, handler: "pkg.mod.f"}, answer: `"/var/task/pkg/mod.py"`},
		{name: "path", given: py("import sys, os\ndef handler(e, c):\n    v = '%d.%d' % sys.version_info[:2]\n    return sys.path[:3] == ['/var/task', '/opt/python/lib/python' + v + '/site-packages', '/opt/python'] and not any('runtime' in p or 'dist-packages' in p or p.endswith('site-packages') for p in sys.path[3:]) and os.getcwd()"), answer: `"/var/task"`},
		{name: "layer", given: given{files: map[string]string{"app.py": "import dep\ndef handler(e, c): return dep.x"}, handler: "app.handler", layer: map[string]string{"python/dep.py": "x = 'layer'"}}, answer: `"layer"`},
		{name: "PYTHONPATH for children", given: py("import os\ndef handler(e, c): return os.environ['PYTHONPATH']"), answer: `"/var/runtime"`},

		{name: "raises", given: py("def inner():\n    raise ValueError('bad ü')\ndef handler(e, c):\n    inner()"), errType: "ValueError", message: "bad ü", trace: "  File \"/var/task/app.py\", line 4, in handler\n    inner()\n", log: "[ERROR] ValueError: bad ü\rTraceback (most recent call last):\r  File \"/var/task/app.py\", line 4, in handler\r    inner()"},
		{name: "own error class", given: py("class Mine(Exception):\n    def __str__(self): raise RuntimeError\ndef handler(e, c): raise Mine"), errType: "Mine", message: "<unprintable Mine object>"},
		{name: "set", given: py("def handler(e, c): return {1, 2}"), errType: "Runtime.MarshalError", message: "Unable to marshal response: Object of type set is not JSON serializable"},
		{name: "bytes", given: py("def handler(e, c): return b'x'"), errType: "Runtime.MarshalError", message: "Unable to marshal response: Object of type bytes is not JSON serializable"},
		{name: "circular", given: py("def handler(e, c):\n    a = []\n    a.append(a)\n    return a"), errType: "Runtime.MarshalError", message: "Unable to marshal response: Circular reference detected"},
		{name: "decimal", given: py("from decimal import Decimal as D\ndef handler(e, c): return [D('0.10'), {'d': D('123456789012345678901234567890.5')}, D('1E+3')]"), answer: `[0.10, {"d": 123456789012345678901234567890.5}, 1E+3]`},
		{name: "NaN", given: py("def handler(e, c): return float('nan')"), answer: `NaN`},
		{name: "lone surrogate", given: py("def handler(e, c): return '\\ud800'"), answer: `"\ud800"`},

		{name: "missing import", given: py("import nowhere\n"), errType: "Runtime.ImportModuleError", message: "Unable to import module 'app': No module named 'nowhere'", exit: 1, log: "[ERROR] Runtime.ImportModuleError: Unable to import module 'app': No module named 'nowhere'"},
		{name: "missing file", given: given{handler: "app.handler"}, errType: "Runtime.ImportModuleError", message: "Unable to import module 'app': No module named 'app'", exit: 1},
		{name: "missing handler", given: py("x = 1"), errType: "Runtime.HandlerNotFound", message: "Handler 'handler' missing on module 'app'", exit: 1},
		{name: "syntax error", given: py("def handler(:\n"), errType: "Runtime.UserCodeSyntaxError", message: "Syntax error in module 'app': invalid syntax (app.py, line 1)", trace: "  File \"/var/task/app.py\" Line 1\n    def handler(:\n", exit: 1},
		{name: "no dot", given: given{handler: "app"}, errType: "Runtime.MalformedHandlerName", message: "Bad handler 'app': not enough values to unpack (expected 2, got 1)", exit: 1},
		{name: "built-in", given: given{handler: "sys.exit"}, errType: "Runtime.BuiltInModuleConflict", message: "Cannot use built-in module sys as a handler module", exit: 1},
		{name: "init raises", given: py("raise KeyError('k')"), errType: "KeyError", message: "'k'", trace: "File \"/var/task/app.py\", line 1, in <module>", exit: 1},
		{name: "exit in handler", given: py("import sys\ndef handler(e, c): sys.exit(4)"), errType: "Runtime.ExitError", message: "exit status 4", exit: 4},
		{name: "exit builtin", given: py("def handler(e, c): exit(5)"), errType: "Runtime.ExitError", message: "exit status 5", exit: 5},
		{name: "os._exit", given: py("import os\ndef handler(e, c): os._exit(6)"), errType: "Runtime.ExitError", message: "exit status 6", exit: 6},

		{name: "context", given: py("def handler(e, c): return [c.function_name, c.function_version, c.memory_limit_in_mb, c.log_group_name, c.log_stream_name, c.aws_request_id, c.invoked_function_arn, c.get_remaining_time_in_millis() > 9000, c.client_context, c.identity.cognito_identity_id, c.tenant_id, 'aws_request_id=' in repr(c)]"),
			answer: `["f", "$LATEST", "128", "/aws/lambda/f", "2024/01/01/[$LATEST]0123", "` + requestOne + `", "arn:aws:lambda:us-east-1:000000000000:function:f", true, null, null, null, true]`},
		{name: "context of a mobile caller", given: py("def handler(e, c): return [c.client_context.custom['k'], c.client_context.client.app_title, c.client_context.env, c.identity.cognito_identity_pool_id, c.tenant_id]"),
			change: func(ev *runtimeapi.Event) {
				ev.ClientContext, ev.CognitoID, ev.TenantID = `{"custom":{"k":"v"},"client":{"app_title":"t"}}`, `{"cognitoIdentityId":"i","cognitoIdentityPoolId":"p"}`, "blue"
			}, answer: `["v", "t", null, "p", "blue"]`},
		{name: "context.log", given: py("def handler(e, c): c.log('told\\n')"), answer: `null`, log: "told\n"},
		{name: "trace id", given: py("import os\ndef handler(e, c): return os.environ['_X_AMZN_TRACE_ID']"), answer: `"Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0"`},
		{name: "time zone", given: given{env: map[string]string{"TZ": "Asia/Tokyo"}, handler: "app.handler", files: map[string]string{"app.py": "import time\nat_import = time.localtime(0).tm_hour\ndef handler(e, c): return [at_import, time.localtime(0).tm_hour]"}}, answer: `[9, 9]`},
		{name: "environment before import", given: given{env: map[string]string{"A": "1=2\nü"}, handler: "app.handler", files: map[string]string{"app.py": "import os\na = os.environ['A']\ndef handler(e, c): return [a == '1=2\\nü', os.environ['LANG'], 'HEARTH_TEST_DIR' in os.environ]"}}, answer: `[true, "en_US.UTF-8", false]`},
		{name: "partial line", given: py("def handler(e, c): print('partial', end='')"), answer: `null`, log: "partial"},
		{name: "surrogate on stdout", given: py("def handler(e, c): print('\\ud800')"), answer: `null`, log: `\ud800`},

		{name: "sqlite3", given: py("import sqlite3\ndef handler(e, c):\n    d = sqlite3.connect(':memory:')\n    d.execute('create table t (x)')\n    d.executemany('insert into t values (?)', [(i,) for i in range(10)])\n    return d.execute('select sum(x) from t').fetchone()[0]"), answer: `45`},
		{name: "zoneinfo", given: py("import zoneinfo, datetime\ndef handler(e, c): return datetime.datetime.fromtimestamp(0, zoneinfo.ZoneInfo('Europe/Berlin')).hour"), answer: `1`},
		{name: "concurrent.futures", given: py("import concurrent.futures as f\ndef handler(e, c):\n    with f.ThreadPoolExecutor(4) as p: return sum(p.map(lambda x: x * x, range(10)))"), answer: `285`},
		{name: "asyncio", given: py("import asyncio\nasync def go():\n    await asyncio.sleep(0.001)\n    return 'ran'\ndef handler(e, c): return asyncio.run(go())"), answer: `"ran"`},
		{name: "ctypes", given: py("import ctypes\ndef handler(e, c): return ctypes.CDLL(None).abs(-3)"), answer: `3`},
		{name: "subprocess", given: py("import subprocess, sys\ndef handler(e, c): return subprocess.run([sys.executable, '-c', 'print(6*7)'], capture_output=True, text=True).stdout.strip()"), answer: `"42"`},
		{name: "tls modules", given: py("import ssl, hashlib, urllib.request\ndef handler(e, c): return [ssl.create_default_context().check_hostname, hashlib.sha256(b'').hexdigest()[:4]]"), answer: `[true, "e3b0"]`},
		{name: "everyday modules", given: py("import lzma, bz2, zlib, csv, uuid, email, xml.etree.ElementTree, unittest, dataclasses, typing, decimal, http.client, multiprocessing, tempfile\ndef handler(e, c): return lzma.decompress(lzma.compress(b'x')).decode()"), answer: `"x"`},
	}
	all := choices(t, Python)
	for i, c := range all {
		for j, x := range cases {
			for _, unbooted := range []bool{false, true} {
				if unbooted && (i > 0 || j%4 != 0) {
					continue // a sample: only the start differs
				}
				x.unbooted = unbooted
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

func TestPythonObeysThePythonPathOfTheFunction(t *testing.T) {
	expectation{given: given{unbooted: true, env: map[string]string{"PYTHONPATH": "/opt/mine"}, handler: "app.handler",
		layer: map[string]string{"mine/dep.py": "x = 'mine'"},
		files: map[string]string{"app.py": "import dep, sys\ndef handler(e, c): return [dep.x, '/opt/python' in sys.path]"}},
		answer: `["mine", false]`}.check(t, choices(t, Python)[0])
}

func TestPythonSendsOtherScriptsAsItsVersionDoes(t *testing.T) {
	for _, c := range choices(t, Python) {
		want := `"ü"`
		if c.interpreter.Version.Minor < 12 {
			want = `"\u00fc"`
		}
		expectation{given: py("def handler(e, c): return e['x']"), event: `{"x":"ü"}`, answer: want}.check(t, c)
	}
}

func TestPythonServesOneInvocationAfterAnother(t *testing.T) {
	ch := start(t, choices(t, Python)[0], py("n = 0\ndef handler(e, c):\n    global n\n    n += 1\n    if e.get('fail'): raise ValueError('x')\n    return n"))
	for i := 1; i <= 50; i++ {
		if i%3 == 0 {
			if f := ch.invoke(`{"fail":true}`).failure(t); f.ErrorType != "ValueError" || len(f.RequestID) != 36 {
				t.Fatalf("invocation %d: %+v", i, f)
			}
		} else if a := ch.invoke(`{}`); a.String() != fmt.Sprint(i) {
			t.Fatalf("invocation %d: %s", i, a)
		}
	}
}
