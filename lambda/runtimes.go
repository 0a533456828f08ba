package lambda

import (
	"slices"
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

// offeredRuntimes are those that the service makes functions for, in the order
// in which its recorded answers list them; what the recordings do not show yet
// stands at the end.
var offeredRuntimes = []string{
	"nodejs20.x", "python3.14", "provided.al2023", "python3.12", "python3.13", "nodejs24.x", "nodejs22.x", "java25",
	"python3.10", "python3.11", "java21", "ruby3.3", "ruby3.4", "ruby3.2", "python3.8", "python3.9", "java17",
	"nodejs16.x", "dotnet10", "dotnet8", "java11", "dotnet6", "nodejs18.x", "provided.al2", "java8.al2", "ruby4.0",
}

// retiredRuntimes are those that it makes no functions for any more. It has
// retired "provided" too; here that is a bootstrap like any other.
var retiredRuntimes = []string{
	"nodejs", "nodejs4.3", "nodejs4.3-edge", "nodejs6.10", "nodejs8.10", "nodejs10.x", "nodejs12.x", "nodejs14.x",
	"python2.7", "python3.6", "python3.7", "java8", "go1.x", "ruby2.5", "ruby2.7",
	"dotnetcore1.0", "dotnetcore2.0", "dotnetcore2.1", "dotnetcore3.1",
}

// checkRuntime refuses what is no runtime, in the service's words. Whether
// this machine has its interpreter is the worker's to say.
func checkRuntime(name string) error {
	switch {
	case name == "provided" || slices.Contains(offeredRuntimes, name):
		return nil
	case slices.Contains(retiredRuntimes, name):
		return hearth.Errorf(hearth.InvalidParameter,
			"The runtime parameter of %s is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions.", name)
	}
	return hearth.Errorf(hearth.InvalidParameter,
		"Value %s at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [%s] or be a valid ARN",
		name, strings.Join(offeredRuntimes, ", "))
}
