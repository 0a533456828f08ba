package runtimes

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox"
	"pgregory.net/rapid"
)

// made is a set of interpreters that need not exist.
func made(strict bool, versions ...string) *Set {
	s := &Set{files: "/files", strict: strict}
	for _, v := range versions {
		in := &Interpreter{Path: "/usr/bin/" + v}
		if rest, ok := strings.CutPrefix(v, "python"); ok {
			in.Language = Python
			major, minor, _ := strings.Cut(rest, ".")
			in.Version = Version{number(major), number(minor), 1}
		} else {
			in.Language = Node
			in.Version = Version{number(strings.TrimPrefix(v, "node")), 5, 1}
		}
		s.interpreters = append(s.interpreters, in)
	}
	return s
}

func number(s string) int {
	n := 0
	for _, c := range s {
		n = n*10 + int(c-'0')
	}
	return n
}

func TestForTakesTheNearestVersion(t *testing.T) {
	for _, x := range []struct {
		have    []string
		runtime string
		boot    hearth.Boot
		exact   bool
	}{
		{[]string{"node18", "node20", "node22"}, "nodejs20.x", "node20", true},
		{[]string{"node20"}, "nodejs22.x", "node20", false},
		{[]string{"node18", "node24"}, "nodejs20.x", "node18", false},
		{[]string{"node20", "node24"}, "nodejs22.x", "node24", false},
		{[]string{"node26"}, "nodejs18.x", "node26", false},
		{[]string{"python3.9", "python3.13"}, "python3.14", "python3.13", false},
		{[]string{"python3.10", "python3.12"}, "python3.11", "python3.12", false},
		{[]string{"python3.10", "python3.11"}, "python3.11", "python3.11", true},
		{[]string{"node20"}, "provided.al2023", "", true},
		{nil, "provided.al2", "", true},
		{nil, "provided", "", true},
	} {
		c, err := made(false, x.have...).For(x.runtime)
		if err != nil {
			t.Errorf("%s with %v: %v", x.runtime, x.have, err)
			continue
		}
		if c.Boot() != x.boot || c.Exact() != x.exact || (c.Note() == "") != x.exact || c.Runtime() != x.runtime {
			t.Errorf("%s with %v: %q exact %v, note %q", x.runtime, x.have, c.Boot(), c.Exact(), c.Note())
		}
	}
}

func TestForRefuses(t *testing.T) {
	all := made(false, "node20", "python3.11")
	for _, x := range []struct {
		set     *Set
		runtime string
		message string
	}{
		{all, "nodejs99.x", "Value nodejs99.x at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [nodejs24.x, "},
		{all, "PYTHON3.9", "Value PYTHON3.9 at 'runtime' failed to satisfy constraint"},
		{all, "nodejs14.x", "The runtime parameter of nodejs14.x is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions."},
		{all, "java21", "The runtime java21 is one that Hearth does not run."},
		{made(false, "node20"), "python3.12", "The runtime python3.12 cannot run here: this machine has no python interpreter"},
		{made(true, "node20"), "nodejs22.x", "The runtime nodejs22.x cannot run here: this machine has node 20.5.1, and Hearth was told to be strict"},
	} {
		_, err := x.set.For(x.runtime)
		if hearth.KindOf(err) != hearth.InvalidParameter || !strings.Contains(err.Error(), x.message) {
			t.Errorf("%s: %v", x.runtime, err)
		}
	}
	if c, err := made(true, "node20").For("nodejs20.x"); err != nil || !c.Exact() {
		t.Errorf("strict and exact: %v", err)
	}
}

func TestNearestIsNeverFartherThanAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minors := rapid.SliceOfN(rapid.IntRange(9, 20), 1, 6).Draw(t, "minors")
		s := &Set{}
		for _, m := range minors {
			s.interpreters = append(s.interpreters, &Interpreter{Language: Python, Version: Version{3, m, 0}})
		}
		want := rapid.IntRange(9, 14).Draw(t, "want")
		got := s.nearest(runtime{language: Python, version: Version{3, want, 0}}).Version.Minor
		distance := func(m int) int { return max(m-want, want-m) }
		for _, m := range minors {
			if distance(m) < distance(got) || distance(m) == distance(got) && m > got {
				t.Fatalf("3.%d is nearer to 3.%d than 3.%d", m, want, got)
			}
		}
	})
}

func TestListTellsOfEveryRuntime(t *testing.T) {
	list := made(false, "node20").List()
	if len(list) != len(IDs()) {
		t.Fatalf("%d of %d", len(list), len(IDs()))
	}
	for _, info := range list {
		switch {
		case info.Runtime == "nodejs20.x" && (!info.Exact || !info.Usable || info.Note != "" || info.Interpreter != "/usr/bin/node20" || info.Version != "20.5.1"),
			info.Runtime == "nodejs22.x" && (info.Exact || !info.Usable || info.Note == ""),
			info.Runtime == "python3.12" && (info.Usable || info.Note == ""),
			info.Runtime == "provided.al2023" && (!info.Usable || !info.Exact || info.Interpreter != ""):
			t.Errorf("%+v", info)
		}
	}
}

func TestEnvironHasWhatTheServiceSets(t *testing.T) {
	c, err := made(false, "node20").For("nodejs20.x")
	if err != nil {
		t.Fatal(err)
	}
	f := &hearth.Function{
		Account: hearth.DefaultAccount, Region: "eu-west-1", Name: "fn", Version: "3", Runtime: "nodejs20.x", Handler: "index.handler",
		MemoryMiB: 512, Env: map[string]string{"MINE": "a=b", "TZ": "Asia/Tokyo", "AWS_REGION": "forged", "_LAMBDA_TELEMETRY_LOG_FD": "9"},
		Logging: hearth.Logging{Format: "JSON"},
	}
	env := c.Environ(f, []string{"AWS_LAMBDA_LOG_STREAM_NAME=stream", "AWS_SESSION_TOKEN=t=t"})
	for _, want := range []string{
		"MINE=a=b", "TZ=Asia/Tokyo", "AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=eu-west-1", "AWS_LAMBDA_FUNCTION_NAME=fn",
		"AWS_LAMBDA_FUNCTION_VERSION=3", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512", "AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/fn",
		"AWS_LAMBDA_LOG_STREAM_NAME=stream", "AWS_EXECUTION_ENV=AWS_Lambda_nodejs20.x", "_HANDLER=index.handler",
		"LAMBDA_TASK_ROOT=/var/task", "LAMBDA_RUNTIME_DIR=/var/runtime", "AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001",
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand", "LANG=en_US.UTF-8", "AWS_SESSION_TOKEN=t=t", "AWS_LAMBDA_LOG_FORMAT=JSON",
		"AWS_LAMBDA_LOG_LEVEL=INFO", "PATH=/usr/local/bin:/usr/bin:/bin:/opt/bin",
		"NODE_PATH=/opt/nodejs/node20/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task",
		"LD_LIBRARY_PATH=/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
	} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is missing in %q", want, env)
		}
	}
	if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "_LAMBDA_TELEMETRY") }) {
		t.Error("a function set a reserved variable")
	}
	if !slices.IsSorted(env) {
		t.Error("not sorted")
	}
	if !Reserved("AWS_REGION") || Reserved("TZ") || !slices.IsSorted(ReservedKeys()) {
		t.Error("the reserved keys are not right")
	}
}

func TestVariablesReadAtBootNeedAnUnbootedProcess(t *testing.T) {
	s := made(false, "node20", "python3.11")
	for _, x := range []struct {
		runtime string
		env     map[string]string
		reason  string
	}{
		{"nodejs20.x", map[string]string{"NODE_ENV": "production", "TZ": "UTC", "PYTHONPATH": "/x", "PATH": "/x", "NODE_PATH": "/x"}, ""},
		{"nodejs20.x", map[string]string{"NODE_OPTIONS": "--expose-gc"}, "NODE_OPTIONS"},
		{"nodejs20.x", map[string]string{"NODE_EXTRA_CA_CERTS": "/x", "LD_PRELOAD": "/y"}, "LD_PRELOAD"},
		{"nodejs20.x", map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrap", "A": "1"}, "AWS_LAMBDA_EXEC_WRAPPER"},
		{"nodejs20.x", map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": ""}, ""},
		{"python3.11", map[string]string{"NODE_OPTIONS": "x", "TZ": "UTC"}, ""},
		{"python3.11", map[string]string{"PYTHONUTF8": "1"}, "PYTHONUTF8"},
		{"python3.11", map[string]string{"LD_LIBRARY_PATH": "/opt/x"}, "LD_LIBRARY_PATH"},
		{"python3.11", map[string]string{"LC_ALL": "C"}, "LC_ALL"},
		{"provided.al2", map[string]string{"LD_PRELOAD": "x"}, ""},
	} {
		c, err := s.For(x.runtime)
		if err != nil {
			t.Fatal(err)
		}
		if reason, needs := c.NeedsUnbooted(x.env); reason != x.reason || needs != (x.reason != "") {
			t.Errorf("%s with %v: %q %v", x.runtime, x.env, reason, needs)
		}
	}
}

func TestBootstrapIsFoundInThePackageBeforeTheLayers(t *testing.T) {
	c, err := made(false).For("provided.al2023")
	if err != nil {
		t.Fatal(err)
	}
	empty, plain, program := t.TempDir(), folder(t, map[string]string{"bootstrap": "no program"}), t.TempDir()
	if err := os.WriteFile(filepath.Join(program, "bootstrap"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		at      sandbox.Attachment
		wrapper string
		argv    []string
	}{
		{sandbox.Attachment{Task: program, Layers: []string{program}}, "", []string{"/var/task/bootstrap"}},
		{sandbox.Attachment{Task: empty, Layers: []string{empty, program}}, "", []string{"/opt/bootstrap"}},
		{sandbox.Attachment{Task: program}, "/opt/wrap", []string{"/opt/wrap", "/var/task/bootstrap"}},
		{sandbox.Attachment{Task: plain, Layers: []string{empty}}, "", nil},
	} {
		f := &hearth.Function{Env: map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": x.wrapper}}
		p, err := c.StartProcess(f, []string{"A=1"}, x.at)
		if x.argv == nil {
			if hearth.KindOf(err) != hearth.InvalidRuntime || !strings.Contains(err.Error(), "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]") {
				t.Errorf("%+v: %v", x.at, err)
			}
			continue
		}
		if err != nil || !slices.Equal(p.Argv, x.argv) || p.Dir != "/var/task" || !slices.Equal(p.Env, []string{"A=1"}) {
			t.Errorf("%+v: %+v %v", x.at, p, err)
		}
	}
}

func TestLoadMessageIsFramed(t *testing.T) {
	env := []string{"A=1", "B=ü\n\"", "C="}
	m := Choice{}.LoadMessage(&hearth.Function{}, env)
	if n := binary.BigEndian.Uint32(m); int(n) != len(m)-4 {
		t.Errorf("length %d of %d", n, len(m)-4)
	}
	var body struct{ Env []string }
	if err := json.Unmarshal(m[4:], &body); err != nil || !slices.Equal(body.Env, env) {
		t.Errorf("%q: %v", m, err)
	}
}

func TestMountsShowTheInterpretersPrefixOrItsPieces(t *testing.T) {
	for _, x := range []struct {
		prefix string
		pieces []string
		want   []string
	}{
		{"/usr", []string{"/usr/bin/node"}, nil},
		{"/home/u/.pyenv/versions/3.11.7", []string{"/home/u/.pyenv/versions/3.11.7/bin/python3.11", "/home/u/.pyenv/versions/3.11.7/lib/libpython3.11.so.1.0"}, []string{"/home/u/.pyenv/versions/3.11.7"}},
		{"/usr/local", []string{"/usr/local/bin/python3.12", "/usr/local/lib/python3.12", "/usr/local/lib/python3.12/lib-dynload", "/usr/local/lib/libpython3.12.so.1.0", "/usr/lib/x.so"},
			[]string{"/usr/local/bin/python3.12", "/usr/local/lib/libpython3.12.so.1.0", "/usr/local/lib/python3.12"}},
		{"/home/u", []string{"/home/u/bin/node"}, []string{"/home/u/bin/node"}},
		{"", []string{"/srv/node"}, []string{"/srv/node"}},
		{"/opt/node-22", []string{"/opt/node-22/bin/node", "/opt/ssl/lib/libssl.so.3"}, []string{"/opt/node-22", "/opt/ssl/lib/libssl.so.3"}},
	} {
		var got []string
		for _, m := range mountsFor(x.prefix, "/home/u", x.pieces) {
			if m.Host != m.Guest {
				t.Errorf("%+v is shown elsewhere", m)
			}
			got = append(got, m.Host)
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("%s: %v, want %v", x.prefix, got, x.want)
		}
	}
}

func TestDiscoverFindsWhatIsThereAndRemembersIt(t *testing.T) {
	real := choices(t, Python)[0].interpreter
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	tools := filepath.Join(dir, "tools")
	for _, d := range []string{"tools", "tools/alien/bin", "tools/shim/bin"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(real.Path, filepath.Join(tools, "python3")); err != nil {
		t.Fatal(err)
	}
	// A shim is a script; an alien program only has the name.
	if err := os.WriteFile(filepath.Join(tools, "shim/bin/node"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	sh, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sh)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tools, "alien/bin/node"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	opt := Options{Files: dir, Dirs: []string{tools}, Cache: cache, Only: true, Home: os.Getenv("HOME")}
	for _, what := range []string{"first", "cached"} {
		s, err := Discover(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		found := s.Interpreters()
		want := real.Version
		if what == "cached" {
			want.Patch = 99
		}
		if len(found) != 1 || found[0].Path != real.Path || found[0].Version != want || !slices.Equal(found[0].Mounts, real.Mounts) {
			t.Errorf("%s: %+v", what, found)
		}
		rejected := s.Rejected()
		if len(rejected) != 1 || rejected[0].Path != filepath.Join(tools, "alien/bin/node") {
			t.Errorf("%s: rejected %+v", what, rejected)
		}
		// What the next run finds can only come from the cache.
		data, err := os.ReadFile(cache)
		if err != nil {
			t.Fatal(err)
		}
		forged := strings.Replace(string(data), fmt.Sprintf(`"Patch":%d`, real.Version.Patch), `"Patch":99`, 1)
		if err := os.WriteFile(cache, []byte(forged), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(cache, []byte("{broken"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err := Discover(t.Context(), opt); err != nil || len(s.Interpreters()) != 1 {
		t.Errorf("with a broken cache: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Discover(ctx, opt); err == nil {
		t.Error("nothing is said when the search was broken off")
	}
}

func TestInstallIsRepeatable(t *testing.T) {
	dir := t.TempDir()
	s := &Set{files: dir, interpreters: machine(t).interpreters}
	seen := map[string]time.Time{}
	for i := range 2 {
		if err := s.Install(t.Context()); err != nil {
			t.Fatal(err)
		}
		files := 0
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if info.Mode()&0o004 == 0 {
				t.Errorf("%s is not readable by everybody: %v", path, info.Mode())
			}
			if d.IsDir() {
				return nil
			}
			files++
			if i == 1 && !seen[path].Equal(info.ModTime()) {
				t.Errorf("%s was written again", path)
			}
			seen[path] = info.ModTime()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if files != len(seen) || files < 15 {
			t.Errorf("%d files, %d seen", files, len(seen))
		}
	}
}

func TestBootsAreServedByTheirChoice(t *testing.T) {
	s := made(false, "node20", "python3.9", "python3.13")
	want := []hearth.Boot{"node20", "python3.13", "python3.9"}
	if got := s.Boots(); !slices.Equal(got, want) {
		t.Errorf("boots %v", got)
	}
	for _, boot := range want {
		if c, err := s.ForBoot(boot); err != nil || c.Boot() != boot {
			t.Errorf("%s: %q %v", boot, c.Boot(), err)
		}
	}
	if c, err := s.ForBoot(""); err != nil || c.Boot() != "" || len(c.Mounts()) != 0 {
		t.Errorf("no boot: %v", err)
	}
	if _, err := s.ForBoot("ruby3"); hearth.KindOf(err) != hearth.Service {
		t.Errorf("unknown boot: %v", err)
	}
}

func TestColdStartIsAQuarterOfABareInterpreter(t *testing.T) {
	for _, c := range append(choices(t, Node)[:1], choices(t, Python)[:1]...) {
		const rounds = 9
		var bares, colds []time.Duration
		for range rounds {
			bares = append(bares, bare(t, c))
			colds = append(colds, cold(t, c))
		}
		// The fastest of each: what else the machine does makes both slower,
		// not both alike.
		if b, k := slices.Min(bares), slices.Min(colds); k > b/4 {
			t.Errorf("%s: cold %v, bare %v", c.Boot(), k, b)
		} else {
			t.Logf("%s: cold %v, bare %v, ratio %.2f", c.Boot(), k, b, float64(k)/float64(b))
		}
	}
}
