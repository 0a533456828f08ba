package runtimes

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox"
)

// Choice is what runs the functions of one runtime identifier. The zero Choice
// is not usable. It does not change and is safe for concurrent use.
type Choice struct {
	runtime     runtime
	interpreter *Interpreter // nil for Provided
	files       string
	exact       bool
	note        string
	image       *Image // of a function that comes as one; then all else is zero
}

// Runtime is the runtime identifier that was asked for; "" for a choice made
// by ForBoot.
func (c Choice) Runtime() string { return c.runtime.id }

// Exact reports whether the interpreter has the version asked for.
func (c Choice) Exact() bool { return c.exact }

// Note says which other version stands in; "" if none does.
func (c Choice) Note() string { return c.note }

// Interpreter is the program; nil for code that brings its own.
func (c Choice) Interpreter() *Interpreter { return c.interpreter }

// Boot names the booted slot that serves the choice; "" if there is nothing to
// boot ahead.
func (c Choice) Boot() hearth.Boot {
	if c.interpreter == nil {
		return ""
	}
	return c.interpreter.boot()
}

// Mounts is what a sandbox must show beside its base.
func (c Choice) Mounts() []sandbox.Mount {
	if c.interpreter == nil {
		return nil
	}
	mounts := slices.Clone(c.interpreter.Mounts)
	return append(mounts,
		sandbox.Mount{Host: filepath.Join(c.files, clientDir), Guest: sandbox.RuntimeDir},
		// The dynamic loader remembers for ever which folders of
		// LD_LIBRARY_PATH did not exist when it first looked, which in a
		// booted process is before the code is attached. Empty ones stand in
		// until then.
		sandbox.Mount{Host: filepath.Join(c.files, emptyDir), Guest: sandbox.TaskDir + "/lib"},
		sandbox.Mount{Host: filepath.Join(c.files, emptyDir), Guest: sandbox.LayerDir + "/lib"},
	)
}

// argv starts the client; f is nil if its function is not known.
func (c Choice) argv(f *hearth.Function, args ...string) []string {
	argv := []string{c.interpreter.Path}
	if c.interpreter.Language == Node {
		argv = append(argv, heapFlags(f)...)
		argv = append(argv, sandbox.RuntimeDir+"/node/index.js")
	} else {
		// -u: what the function prints is in the pipe when it is killed.
		// -B: there is nowhere to write byte code to.
		// -S: module site would show the host's packages, and takes a
		// third of the start.
		argv = append(argv, "-u", "-B", "-S", sandbox.RuntimeDir+"/python/bootstrap.py")
	}
	return append(argv, args...)
}

// heapFlags fit V8's heap into the function's memory, so that garbage is
// collected before the kernel ends the process; what the function says itself
// goes before. A booted process does what it still can (client/node/heap.js).
func heapFlags(f *hearth.Function) []string {
	if f == nil || f.MemoryMiB <= 0 || strings.Contains(strings.ReplaceAll(f.Env["NODE_OPTIONS"], "_", "-"), "-space-size") {
		return nil
	}
	flags := []string{fmt.Sprintf("--max-old-space-size=%d", f.MemoryMiB*9/10)}
	if f.MemoryMiB < 512 {
		flags = append(flags, fmt.Sprintf("--max-semi-space-size=%d", max(1, f.MemoryMiB/32)))
	}
	return flags
}

// BootProcess is the process to start when a slot is made. The choice must
// have a Boot.
func (c Choice) BootProcess() sandbox.Process {
	env := []string{
		"AWS_LAMBDA_RUNTIME_API=" + sandbox.RuntimeAPI,
		"LANG=C.UTF-8",
		"TZ=:UTC",
		"LD_LIBRARY_PATH=" + c.libraryPath(),
	}
	if c.interpreter.Language == Node {
		env = append(env, "NODE_PATH="+nodePath(c.interpreter.Version.Major))
	}
	return sandbox.Process{Argv: c.argv(nil, "--wait"), Env: env, Dir: "/"}
}

// LoadMessage is what to write to the control socket of a booted process so
// that it loads f: env is its whole environment, as Environ makes it.
func (c Choice) LoadMessage(f *hearth.Function, env []string) []byte {
	body, err := json.Marshal(struct {
		Env []string `json:"env"`
	}{env})
	if err != nil {
		panic(err) // strings always have a JSON form
	}
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))), body...)
}

// StartProcess is the process for a sandbox without a booted one, which gets
// everything from its environment. code is what the container has attached:
// a function that brings its own bootstrap is looked up there, in the
// package before the layers. Errors: InvalidRuntime, if there is none,
// InvalidImage, if an image says nothing.
func (c Choice) StartProcess(f *hearth.Function, env []string, code sandbox.Attachment) (sandbox.Process, error) {
	if c.image != nil {
		return c.image.process(f, env)
	}
	p := sandbox.Process{Env: env, Dir: sandbox.TaskDir}
	if c.interpreter == nil {
		entry, err := bootstrap(code)
		if err != nil {
			return sandbox.Process{}, err
		}
		p.Argv = []string{entry}
	} else {
		p.Argv = c.argv(f)
		// These are for processes that the function starts; the client sets
		// them again once it runs.
		p.Env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
			key, value, _ := strings.Cut(kv, "=")
			return key == "PYTHONPATH" && value == sandbox.RuntimeDir
		})
	}
	if wrapper := f.Env["AWS_LAMBDA_EXEC_WRAPPER"]; wrapper != "" {
		p.Argv = append([]string{wrapper}, p.Argv...)
	}
	return p, nil
}

// bootstrap finds the program of a function that brings its own.
func bootstrap(code sandbox.Attachment) (string, error) {
	looked := []string{sandbox.TaskDir + "/bootstrap", sandbox.LayerDir + "/bootstrap"}
	if isRunnable(filepath.Join(code.Task, "bootstrap")) {
		return looked[0], nil
	}
	for _, layer := range code.Layers {
		if isRunnable(filepath.Join(layer, "bootstrap")) {
			return looked[1], nil
		}
	}
	return "", hearth.Errorf(hearth.InvalidRuntime, "Couldn't find valid bootstrap(s): %v", looked)
}

func isRunnable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// bootOnly are variables that an interpreter or the dynamic loader reads when
// it starts, so that a process which was booted without them cannot obey them
// any more. A star ends a prefix.
var bootOnly = map[Language][]string{
	Node: {
		"LD_*", "MALLOC_*", "GLIBC_TUNABLES", "LC_*", "OPENSSL_*", "SSL_CERT_DIR", "SSL_CERT_FILE", "UV_*",
		"NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "NODE_ICU_DATA", "NODE_DEBUG", "NODE_DEBUG_NATIVE",
		"NODE_V8_COVERAGE", "NODE_COMPILE_CACHE", "NODE_COMPILE_CACHE_PORTABLE", "NODE_DISABLE_COMPILE_CACHE",
		"NODE_NO_WARNINGS", "NODE_PENDING_DEPRECATION", "NODE_PRESERVE_SYMLINKS", "NODE_PRESERVE_SYMLINKS_MAIN",
		"NODE_REDIRECT_WARNINGS", "NODE_SKIP_PLATFORM_CHECK", "NODE_USE_ENV_PROXY", "NODE_USE_SYSTEM_CA",
	},
	Python: {"LD_*", "MALLOC_*", "GLIBC_TUNABLES", "LC_*", "OPENSSL_*", "PYTHON*"},
}

// NeedsUnbooted reports whether a function with these variables needs a
// process that is started with them, and which variable is the reason. A
// change of TZ, LANG, PATH or NODE_PATH is obeyed by a booted process.
func (c Choice) NeedsUnbooted(env map[string]string) (reason string, needs bool) {
	if c.interpreter == nil {
		return "", false
	}
	if env["AWS_LAMBDA_EXEC_WRAPPER"] != "" {
		return "AWS_LAMBDA_EXEC_WRAPPER", true
	}
	var found []string
	for key := range env {
		for _, pattern := range bootOnly[c.interpreter.Language] {
			prefix, star := strings.CutSuffix(pattern, "*")
			if key == pattern || star && strings.HasPrefix(key, prefix) {
				found = append(found, key)
			}
		}
	}
	if len(found) == 0 {
		return "", false
	}
	slices.Sort(found)
	return found[0], true
}

func nodePath(major int) string {
	return fmt.Sprintf("/opt/nodejs/node%d/node_modules:/opt/nodejs/node_modules:%s/node_modules:%[2]s:%s", major, sandbox.RuntimeDir, sandbox.TaskDir)
}

// libraryPath is where the service lets the loader look.
func (c Choice) libraryPath() string {
	dirs := []string{"/lib64", "/usr/lib64", sandbox.RuntimeDir, sandbox.RuntimeDir + "/lib", sandbox.TaskDir, sandbox.TaskDir + "/lib", sandbox.LayerDir + "/lib"}
	if c.interpreter != nil {
		dirs = append(slices.Clone(c.interpreter.LibraryDirs), dirs...)
	}
	return strings.Join(dirs, ":")
}
