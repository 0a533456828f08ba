package runtimes

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// logged runs one invocation and gives the output once it holds the mark that
// the handler writes last.
func logged(t *testing.T, c Choice, g given) string {
	t.Helper()
	ch := start(t, c, g)
	if a := ch.invoke(`{}`); a.err != nil {
		t.Fatalf("%s\n%s", a, ch.output.String())
	}
	ch.waitLog("the end")
	return ch.output.String()
}

var timestamp = regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z`)

func TestNodeTextLog(t *testing.T) {
	got := timestamp.ReplaceAllString(logged(t, choices(t, Node)[0], js(`
console.log('at init')
exports.handler = async () => {
  console.debug('%s and %d', 'text', 5, { a: [1, { b: { c: {} } }] })
  console.info('two\nlines')
  console.warn(new Map([[1, 2]]))
  console.error('é')
  console.trace('trace')
  console.fatal('fatal')
  console.log()
  process.stdout.write('raw\n')
  console.log('the end')
}`)), "TIME")
	id := requestOne
	want := "TIME\tundefined\tINFO\tat init\n" +
		"TIME\t" + id + "\tDEBUG\ttext and 5 { a: [ 1, { b: [Object] } ] }\n" +
		"TIME\t" + id + "\tINFO\ttwo\rlines\n" +
		"TIME\t" + id + "\tWARN\tMap(1) { 1 => 2 }\n" +
		"TIME\t" + id + "\tERROR\té\n" +
		"TIME\t" + id + "\tTRACE\ttrace\n" +
		"TIME\t" + id + "\tFATAL\tfatal\n" +
		"TIME\t" + id + "\tINFO\t\n" +
		"raw\n" +
		"TIME\t" + id + "\tINFO\tthe end\n"
	if got != want {
		t.Errorf("logged\n%s\nwant\n%s", got, want)
	}
}

// entries reads a JSON log, with the times checked and taken out.
func entries(t *testing.T, text string) []map[string]any {
	t.Helper()
	var list []map[string]any
	for line := range strings.Lines(text) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if !timestamp.MatchString(fmt.Sprint(entry["timestamp"])) {
			t.Errorf("no timestamp: %s", line)
		}
		delete(entry, "timestamp")
		list = append(list, entry)
	}
	return list
}

func checkEntries(t *testing.T, text string, want []string) {
	t.Helper()
	got := entries(t, text)
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d:\n%s", len(got), len(want), text)
	}
	for i, w := range want {
		var entry map[string]any
		if err := json.Unmarshal([]byte(w), &entry); err != nil {
			t.Fatal(err)
		}
		for key, value := range entry {
			if fmt.Sprint(got[i][key]) != fmt.Sprint(value) {
				t.Errorf("entry %d: %s is %v, want %v", i, key, got[i][key], value)
			}
		}
	}
}

func TestNodeJSONLog(t *testing.T) {
	g := js(`
exports.handler = async () => {
  console.debug('hidden')
  console.log('plain')
  console.warn({ a: 1 })
  const alone = new TypeError('alone')
  alone.stack = 'TypeError: alone'
  console.error(alone)
  console.error('with', new TypeError('an error'), 3)
  console.info(10n)
  console.info('the end')
}`)
	g.logging = hearth.Logging{Format: "JSON", ApplicationLevel: "INFO"}
	checkEntries(t, logged(t, choices(t, Node)[0], g), []string{
		`{"level":"INFO","message":"plain","requestId":"` + requestOne + `"}`,
		`{"level":"WARN","message":{"a":1}}`,
		`{"level":"ERROR","message":{"errorType":"TypeError","errorMessage":"alone","stackTrace":["TypeError: alone"]}}`,
		`{"level":"ERROR","errorType":"TypeError","errorMessage":"an error"}`,
		`{"level":"INFO","message":"10n"}`,
		`{"level":"INFO","message":"the end"}`,
	})
}

func TestPythonTextLog(t *testing.T) {
	for _, c := range choices(t, Python) {
		got := timestamp.ReplaceAllString(logged(t, c, py(`
import logging
logging.warning('at init')
log = logging.getLogger('mine')
def handler(e, c):
    log.info('hidden')
    logging.getLogger().setLevel(logging.INFO)
    log.info('two\nlines %d', 5)
    print('raw')
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception('caught')
    log.critical('the end')
`)), "TIME")
		head := "[WARNING]\tTIME\t\tat init\n" +
			"[INFO]\tTIME\t" + requestOne + "\ttwo\rlines 5\n" +
			"raw\n" +
			"[ERROR]\tTIME\t" + requestOne + "\tcaught\r"
		if !strings.HasPrefix(got, head) || !strings.HasSuffix(got, "\rZeroDivisionError: division by zero\n[CRITICAL]\tTIME\t"+requestOne+"\tthe end\n") {
			t.Errorf("%s logged\n%s", c.Boot(), strings.ReplaceAll(got, "\r", "⏎"))
		}
	}
}

func TestPythonJSONLog(t *testing.T) {
	for _, c := range choices(t, Python) {
		g := py(`
import logging
log = logging.getLogger('mine')
def handler(e, c):
    log.info('hidden')
    log.warning('two\nlines', extra={'order': 7})
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception('caught')
    log.critical('the end')
`)
		g.logging = hearth.Logging{Format: "JSON", ApplicationLevel: "WARN"}
		checkEntries(t, logged(t, c, g), []string{
			`{"level":"WARN","message":"two\nlines","logger":"mine","order":7,"requestId":"` + requestOne + `"}`,
			`{"level":"ERROR","message":"caught","errorType":"ZeroDivisionError","errorMessage":"division by zero","location":"/var/task/app.py:handler:10"}`,
			`{"level":"FATAL","message":"the end"}`,
		})
	}
}

func TestFramesKeepLinesTogether(t *testing.T) {
	for _, x := range []struct {
		c     Choice
		given given
		kind  uint32
		want  string
	}{
		{choices(t, Node)[0], js(`exports.handler = async () => { console.warn('two\nlines\nthe end') }`), 0xa55a0003 | 4<<2, "two\nlines\nthe end"},
		{choices(t, Python)[0], py("import logging\ndef handler(e, c): logging.warning('two\\nlines\\nthe end')"), 0xa55a0003 | 4<<2, "two\nlines\nthe end\n"},
	} {
		x.given.framed = true
		out := logged(t, x.c, x.given)
		if len(out) < 16 {
			t.Fatalf("no frame: %q", out)
		}
		head, message := []byte(out[:16]), out[16:]
		if kind := binary.BigEndian.Uint32(head); kind != x.kind {
			t.Errorf("kind %x, want %x", kind, x.kind)
		}
		if n := binary.BigEndian.Uint32(head[4:]); int(n) != len(message) {
			t.Errorf("length %d of %d", n, len(message))
		}
		if at := time.UnixMicro(int64(binary.BigEndian.Uint64(head[8:]))); time.Since(at) > time.Minute || time.Until(at) > time.Second {
			t.Errorf("time %v", at)
		}
		if !strings.HasSuffix(message, "\t"+requestOne+"\tWARN\t"+x.want) && !strings.HasSuffix(message, "\t"+requestOne+"\t"+x.want) {
			t.Errorf("message %q", message)
		}
	}
}

// cpuTicks is the processor time that a process has used, in clock ticks.
func cpuTicks(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	var user, system int
	fields := strings.Fields(rest)
	if _, err := fmt.Sscan(fields[11], &user); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(fields[12], &system); err != nil {
		t.Fatal(err)
	}
	return user + system
}

func TestWaitingCostsNoProcessorTimeAndSurvivesAFreeze(t *testing.T) {
	for _, c := range append(choices(t, Node)[:1], choices(t, Python)[:1]...) {
		booted := boot(t, c, trivial(c))
		serving := start(t, c, trivial(c))
		serving.invoke(`{"a":1}`)
		for _, ch := range []*child{booted, serving} {
			// An interpreter has threads that finish a start or a collection a
			// little later; who looks again and again never comes to rest.
			used := 0
			for range 20 {
				before := cpuTicks(t, ch.cmd.Process.Pid)
				time.Sleep(300 * time.Millisecond) // what is watched is that nothing happens
				if used = cpuTicks(t, ch.cmd.Process.Pid) - before; used <= 1 {
					break
				}
			}
			if used > 1 {
				t.Errorf("%s: %d ticks while it waited", c.Boot(), used)
			}
			for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
				if err := ch.cmd.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
			}
		}
		booted.load()
		for _, ch := range []*child{booted, serving} {
			if a := ch.invoke(`{"a":1}`); a.err != nil {
				t.Errorf("%s after a freeze: %s", c.Boot(), a)
			}
		}
	}
}

func TestBootedProcessEndsWithItsControlSocket(t *testing.T) {
	for _, c := range append(choices(t, Node)[:1], choices(t, Python)...) {
		ch := boot(t, c, trivial(c))
		ch.control.Close()
		if state := ch.waitExit(); state.ExitCode() != 0 || ch.output.String() != "" {
			t.Errorf("%s: %v %s", c.Boot(), state, ch.output.String())
		}
	}
}
