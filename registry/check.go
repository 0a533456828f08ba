package registry

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// What the service checks beyond the shapes of its model, in its words.

// runtimes that Hearth runs. The service no longer takes "provided"; here it
// means the same as its successors, so that old templates work.
var runtimes = []string{
	"nodejs18.x", "nodejs20.x", "nodejs22.x", "nodejs24.x",
	"provided", "provided.al2", "provided.al2023",
	"python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14",
}

// Runtimes returns the names of the runtimes that functions may have.
func Runtimes() []string { return slices.Clone(runtimes) }

// retired are runtimes that the service once had.
var retired = []string{
	"dotnetcore1.0", "dotnetcore2.0", "dotnetcore2.1", "dotnetcore3.1", "dotnet5.0", "dotnet6", "dotnet7", "go1.x", "java8",
	"nodejs", "nodejs4.3", "nodejs4.3-edge", "nodejs6.10", "nodejs8.10", "nodejs10.x", "nodejs12.x", "nodejs14.x", "nodejs16.x",
	"python2.7", "python3.6", "python3.7", "python3.8", "ruby2.5", "ruby2.7",
}

// Limits of the service.
const (
	maxName    = 64
	minMemory  = 128
	maxMemory  = 10_240
	minTmp     = 512
	maxTmp     = 10_240
	maxTimeout = 900 * time.Second
	maxEnv     = 4096
)

func (r *Registry) check(f *hearth.Function) error {
	if err := r.checkRuntime(f); err != nil {
		return err
	}
	switch {
	case f.Handler == "" && f.PackageType != image:
		return mandatory()
	case f.MemoryMiB > maxMemory:
		return invalid("'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to %d", maxMemory)
	case f.MemoryMiB < minMemory:
		return invalid("'MemorySize' value failed to satisfy constraint: Member must have value greater than or equal to %d", minMemory)
	case f.Timeout > maxTimeout:
		return hearth.Errorf(hearth.Validation, "1 validation error detected: Value '%d' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to %d", f.Timeout/time.Second, maxTimeout/time.Second)
	case f.Timeout < time.Second:
		return hearth.Errorf(hearth.Validation, "1 validation error detected: Value '%d' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1", f.Timeout/time.Second)
	case f.TmpMiB < minTmp || f.TmpMiB > maxTmp:
		return hearth.Errorf(hearth.Validation, "1 validation error detected: Value '%d' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value between %d and %d", f.TmpMiB, minTmp, maxTmp)
	case !isDeadLetterTarget(f.DeadLetterTarget):
		return invalid("The target %s of the dead-letter configuration is neither an SQS queue nor an SNS topic.", f.DeadLetterTarget)
	}
	return checkEnv(f.Env)
}

// isDeadLetterTarget tells what can take failed events: nothing, a queue of SQS
// or a topic of SNS.
func isDeadLetterTarget(arn string) bool {
	parts := strings.Split(arn, ":")
	return arn == "" || len(parts) == 6 && (parts[2] == "sqs" || parts[2] == "sns") && parts[5] != ""
}

func mandatory() error {
	return invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
}

// image is the package type of functions that come as one.
const image = "Image"

func (r *Registry) checkRuntime(f *hearth.Function) error {
	switch {
	case f.PackageType == image && (f.Runtime != "" || f.Handler != "" || len(f.Layers) > 0):
		return notForImages()
	case f.PackageType == image:
		return nil
	case f.Runtime == "":
		return mandatory()
	case slices.Contains(r.cfg.Runtimes, f.Runtime):
		return nil
	case slices.Contains(retired, f.Runtime):
		return invalid("The runtime parameter of %s is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions.", f.Runtime)
	}
	return invalid("Value %s at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [%s] or be a valid ARN", f.Runtime, strings.Join(r.cfg.Runtimes, ", "))
}

// reserved are the variables that the service sets itself.
var reserved = []string{
	"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION",
	"AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_NAME",
	"AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME",
	"AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION", "AWS_SECRET_ACCESS_KEY",
	"AWS_SESSION_TOKEN", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
}

func checkEnv(env map[string]string) error {
	if len(env) == 0 {
		return nil
	}
	var taken []string
	for _, name := range reserved {
		if _, ok := env[name]; ok {
			taken = append(taken, name)
		}
	}
	if len(taken) > 0 {
		return invalid("Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: %s", strings.Join(taken, ", "))
	}
	var measured bytes.Buffer
	e := json.NewEncoder(&measured)
	e.SetEscapeHTML(false)
	if err := e.Encode(env); err != nil {
		return invalid("The environment variables are not text.")
	}
	if text := bytes.TrimSuffix(measured.Bytes(), []byte("\n")); len(text) > maxEnv {
		return invalid("Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: %s", text)
	}
	return nil
}

func checkName(name string) error {
	switch {
	case len(name) > maxName:
		return invalid("1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to %d", name, maxName)
	case !validName(name):
		return hearth.Errorf(hearth.Validation, "1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+", name)
	}
	return nil
}
