package runtimes

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox"
)

// reserved are the variables that the service sets and a function may not.
var reserved = []string{
	"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV",
	"AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION",
	"AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_FORMAT", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_LEVEL",
	"AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_MAX_CONCURRENCY", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION",
	"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT", "_LAMBDA_TELEMETRY_LOG_FD",
}

// Reserved reports whether key is a variable that a function's configuration
// may not set.
func Reserved(key string) bool { return slices.Contains(reserved, key) }

// ReservedKeys lists those keys, sorted.
func ReservedKeys() []string { return slices.Sorted(slices.Values(reserved)) }

// Environ is the whole environment of f's processes as KEY=value, sorted: what
// the service sets, f's own variables, which win over the defaults but not
// over the reserved ones, and extra, which wins over all: the log stream's
// name, the session's credentials and the endpoint.
func (c Choice) Environ(f *hearth.Function, extra []string) []string {
	env := map[string]string{
		"LANG":            "en_US.UTF-8",
		"TZ":              ":UTC",
		"PATH":            c.searchPath(),
		"LD_LIBRARY_PATH": c.libraryPath(),
	}
	if c.image != nil {
		env = c.image.environ()
	}
	if c.interpreter != nil {
		switch c.interpreter.Language {
		case Node:
			env["NODE_PATH"] = nodePath(c.layerMajor())
		case Python:
			env["PYTHONPATH"] = sandbox.RuntimeDir
		}
	}
	for key, value := range f.Env {
		if !Reserved(key) {
			env[key] = value
		}
	}
	maps.Copy(env, map[string]string{
		"_HANDLER":                        f.Handler,
		"AWS_REGION":                      f.Region,
		"AWS_DEFAULT_REGION":              f.Region,
		"AWS_EXECUTION_ENV":               "AWS_Lambda_" + f.Runtime,
		"AWS_LAMBDA_FUNCTION_NAME":        f.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     f.Version,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(f.MemoryMiB),
		"AWS_LAMBDA_LOG_GROUP_NAME":       f.LogGroup(),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_RUNTIME_API":          sandbox.RuntimeAPI,
		"LAMBDA_TASK_ROOT":                sandbox.TaskDir,
		"LAMBDA_RUNTIME_DIR":              sandbox.RuntimeDir,
	})
	if c.image != nil {
		delete(env, "_HANDLER") // it is the command's to say
	}
	if c.interpreter == nil {
		delete(env, "AWS_EXECUTION_ENV") // as with the service, which sets it for its own runtimes only
	}
	if f.Logging.Format == "JSON" {
		env["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
		level := f.Logging.ApplicationLevel
		if level == "" {
			level = "INFO"
		}
		env["AWS_LAMBDA_LOG_LEVEL"] = level
	} else if f.Logging.Format != "" {
		env["AWS_LAMBDA_LOG_FORMAT"] = f.Logging.Format
	}
	for _, entry := range extra {
		key, value, _ := strings.Cut(entry, "=")
		env[key] = value
	}
	list := make([]string, 0, len(env))
	for key, value := range env {
		list = append(list, key+"="+value)
	}
	slices.Sort(list)
	return list
}

// layerMajor is the version by whose name layers keep their node modules: the
// one that the function was written for.
func (c Choice) layerMajor() int {
	if c.runtime.version.Major != 0 {
		return c.runtime.version.Major
	}
	return c.interpreter.Version.Major
}

// searchPath has the interpreter's own folder first, so that a function which
// starts "python3" or "node" gets the one it runs on.
func (c Choice) searchPath() string {
	dirs := []string{"/usr/local/bin", "/usr/bin", "/bin", "/opt/bin"}
	if c.interpreter != nil {
		if dir := filepath.Dir(c.interpreter.Path); !slices.Contains(dirs, dir) {
			dirs = append([]string{dir}, dirs...)
		}
	}
	return strings.Join(dirs, ":")
}
