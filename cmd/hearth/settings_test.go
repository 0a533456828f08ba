package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/server"
)

// started is a server that is ready at once and ends once it was asked where it
// listens, which the ready line does.
type started struct {
	err   error
	asked chan struct{}
}

func (s started) Addr() net.Addr {
	close(s.asked)
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4711}
}

func (s started) Ready() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (s started) Serve(context.Context) error {
	<-s.asked
	return s.err
}

// up runs hearth up with a server that only remembers its configuration.
func up(t *testing.T, env map[string]string, startErr, serveErr error, args ...string) (server.Config, result) {
	t.Helper()
	var got server.Config
	var out, errOut bytes.Buffer
	if env == nil {
		env = map[string]string{}
	}
	a := &app{in: strings.NewReader(""), out: &out, err: &errOut, getenv: func(k string) string { return env[k] }}
	a.newServer = func(_ context.Context, cfg server.Config) (runner, error) {
		got = cfg
		return started{serveErr, make(chan struct{})}, startErr
	}
	if env["HEARTH_CONFIG"] == "" && !strings.Contains(strings.Join(args, " "), "--config") {
		// A file of the machine that runs the tests must not count.
		empty := filepath.Join(t.TempDir(), "empty.toml")
		write(t, empty, "")
		env["HEARTH_CONFIG"] = empty
	}
	code := a.run(t.Context(), append([]string{"up"}, args...))
	return got, result{code, out.String(), errOut.String()}
}

func TestFirstOfFlagEnvironmentFileAndDefaultCounts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hearth.toml")
	write(t, file, `
# where
listen = "127.0.0.1:1"
data = "/from/file"
pool = 11
overcommit = 1.5
metrics = false
idle-max = "2h"
log-retention = "3d"
interpreters = ["/a", "/b"]
log-level = "warn"
`)
	env := map[string]string{"HEARTH_CONFIG": file, "HEARTH_POOL": "22", "HEARTH_LOG_LEVEL": "debug"}
	cfg, r := up(t, env, nil, nil, "--pool", "33", "--region", "eu-west-1")
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	for what, ok := range map[string]bool{
		"flag over environment and file": cfg.PoolMiB == 33,
		"flag over default":              cfg.Region == "eu-west-1",
		"environment over file":          cfg.LogLevel == "debug",
		"file: text":                     cfg.Listen == "127.0.0.1:1" && cfg.DataDir == "/from/file",
		"file: number":                   cfg.Overcommit == 1.5,
		"file: truth":                    !cfg.Metrics,
		"file: durations":                cfg.IdleMax == 2*time.Hour && cfg.LogRetention == 72*time.Hour,
		"file: list":                     strings.Join(cfg.Interpreters, " ") == "/a /b",
		"default":                        cfg.Concurrency == server.DefaultConfig().Concurrency,
	} {
		if !ok {
			t.Errorf("%s: %+v", what, cfg)
		}
	}
}

func TestWrongSettingIsNamedWithWhereItStands(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hearth.toml")
	for text, want := range map[string]string{
		"listne = 1":      `there is no setting "listne"`,
		"pool = \"much\"": "pool is not right",
		"pool = [1]":      "one value, not a list",
		"pool ==":         "line 1",
		"[pool]\nx = 1":   "no plain value",
		"json = true\n":   "",
	} {
		write(t, file, text)
		_, r := up(t, nil, nil, nil, "--config", file)
		if want == "" {
			r.want(t, 0, "")
			continue
		}
		r.want(t, exitUsage, "", want, file)
	}
	_, r := up(t, map[string]string{"HEARTH_POOL": "much"}, nil, nil)
	r.want(t, exitUsage, "", `HEARTH_POOL="much" is not right`)
	_, r = up(t, nil, nil, nil, "--pool", "-1", "--log-level", "loud")
	r.want(t, exitUsage, "", "pool: -1 MiB", `log-level: "loud"`)
	_, r = up(t, nil, nil, nil, "--config", file+".gone")
	r.want(t, exitFailed, "", "can't be read")
}

func TestEverySettingIsInAGroupOfTheHelp(t *testing.T) {
	_, r := up(t, nil, nil, nil, "--help")
	for _, want := range append(upGroups, "--listen HOST:PORT", "--log-retention duration", "(default 14d)", "(default 4h)", "--data folder", "HEARTH_LOG_LEVEL") {
		r.want(t, 0, want)
	}
	(&app{getenv: os.Getenv}).upCmd().LocalFlags().VisitAll(func(f *pflag.Flag) {
		if n := strings.Count(r.out, " --"+f.Name+" ") + strings.Count(r.out, " --"+f.Name+"\n"); !f.Hidden && n == 0 {
			t.Errorf("the help has no --%s:\n%s", f.Name, r.out)
		}
		if _, ok := f.Annotations[settingGroup]; !ok && f.Name != "help" {
			t.Errorf("--%s is in no group", f.Name)
		}
	})
}

func TestReadyLineNamesTheEndpointAndWhatToTypeNext(t *testing.T) {
	_, r := up(t, nil, nil, nil, "--data", "/some where")
	r.want(t, 0, "is ready at http://127.0.0.1:4711. Next")
	r.want(t, 0, `eval "$(hearth env --data '/some where')"`)
	_, r = up(t, nil, nil, nil, "--json")
	r.want(t, 0, `{"endpoint":"http://127.0.0.1:4711","pid":`)
}

func TestServerThatCantStartSaysWhyInOneSentence(t *testing.T) {
	for want, err := range map[string]error{
		"can't listen on 127.0.0.1:9070: the port is in use": &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)},
		"can't listen on 127.0.0.1:9070: ports below 1024":   &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EACCES)},
		"can't start: something else":                        errors.New("something else"),
	} {
		_, r := up(t, nil, err, nil, "--data", "/d")
		r.want(t, exitFailed, "", want)
		if strings.Count(r.err, "\n") > 2 {
			t.Errorf("more than the reason and the way out: %s", r.err)
		}
	}
	_, r := up(t, nil, nil, errors.New("it fell over"))
	r.want(t, exitFailed, "is ready", "the server ended: it fell over")
}

func TestEnvPrintsWhatAShellCanEvaluate(t *testing.T) {
	f := newFake(t)
	f.hearth("env").want(t, 0, "export AWS_ENDPOINT_URL="+f.url+"\nexport AWS_ACCESS_KEY_ID=AKIA")
	f.hearth("env").want(t, 0, "export AWS_REGION="+testRegion+"\n")
	f.hearth("env", "--format", "fish").want(t, 0, "set -gx AWS_ENDPOINT_URL "+f.url)
	f.hearth("env", "--format", "json").want(t, 0, `"AWS_ENDPOINT_URL": "`+f.url+`"`)
	f.hearth("env", "--json").want(t, 0, `"AWS_REGION": "`+testRegion+`"`)
	f.hearth("env", "--format", "cmd").want(t, exitUsage, "", "none of sh, fish, json")
	for in, want := range map[string]string{"plain/1.x": "plain/1.x", "": "''", "it's": `'it'\''s'`, "a b": "'a b'", "$x": "'$x'"} {
		if got := shellQuote(in); got != want {
			t.Errorf("%q is quoted as %s", in, got)
		}
	}
}

func TestNoServerMeansWhatToDo(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"env"}, {"ls"}, {"ps"}, {"invoke", "f"}, {"deploy", dir}} {
		run(t, "", nil, append(args, "--data", dir)...).want(t, exitFailed, "", "no server runs on the data folder "+dir, "hearth up --data "+dir)
	}
	run(t, "", nil, "ls", "--data", dir, "--json").want(t, exitFailed, "", `"exitCode":1`, `"wayOut":"Start one`)

	// A server that was killed leaves its file behind.
	f := newFake(t)
	if err := control.WriteRunning(f.dir, control.Running{Endpoint: "http://127.0.0.1:1", Account: testAccount, Region: testRegion}); err != nil {
		t.Fatal(err)
	}
	f.hearth("env").want(t, exitFailed, "", "no server runs")
	f.hearth("ls").want(t, exitFailed, "", "nothing answers at http://127.0.0.1:1", "hearth up --data")
}

func TestEnvironmentCountsOnlyIfItNamesAnEndpoint(t *testing.T) {
	f := newFake(t)
	r := f.hearth("env", "--json")
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	env := map[string]string{}
	for line := range strings.Lines(f.hearth("env").out) {
		k, v, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		env[k] = strings.Trim(v, "'")
	}
	run(t, "", env, "ls").want(t, 0, "", "no functions yet")

	env["AWS_SECRET_ACCESS_KEY"] = "wrong"
	run(t, "", env, "ls").want(t, exitFailed, "", "can't list the functions", "hearth env")
	env["HEARTH_DATA"] = f.dir
	run(t, "", env, "ls").want(t, 0, "", "no functions yet")
	delete(env, "AWS_ENDPOINT_URL") // what is left may be for AWS
	env["HEARTH_DATA"] = t.TempDir()
	run(t, "", env, "ls").want(t, exitFailed, "", "no server runs")
}

func TestDataFolderIsWhereThePlatformExpectsIt(t *testing.T) {
	env := map[string]string{"HOME": "/home/u"}
	get := func(k string) string { return env[k] }
	for _, c := range []struct {
		uid  int
		xdg  string
		want string
	}{{0, "/x", "/var/lib/hearth"}, {1, "", "/home/u/.local/share/hearth"}, {1, "/x", "/x/hearth"}, {1, "rel", "/home/u/.local/share/hearth"}} {
		env["XDG_DATA_HOME"] = c.xdg
		if got := defaultDataDir(get, c.uid); got != c.want {
			t.Errorf("uid %d, XDG_DATA_HOME=%q: %s", c.uid, c.xdg, got)
		}
	}
}

func TestColoursAndProgressAreForPeopleOnly(t *testing.T) {
	var errOut bytes.Buffer
	a := &app{err: &errOut, getenv: func(string) string { return "" }, outTTY: true}
	if a.bold("x") != "\x1b[1mx\x1b[0m" {
		t.Error("a terminal gets no colour")
	}
	a.getenv = func(k string) string { return map[string]string{"NO_COLOR": "1"}[k] }
	if a.bold("x") != "x" {
		t.Error("NO_COLOR is not respected")
	}
	a.progress("waiting")()
	if errOut.Len() != 0 {
		t.Error("progress is shown where no person looks")
	}
}

func (started) Public() string { return "" }
