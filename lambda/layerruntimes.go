package lambda

import (
	"reflect"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// A layer says for which runtimes it is. The service knows more of them there
// than functions may have: all that it ever had, and a few of its own.

// publishRuntimes and listRuntimes are the enumerations that the service tells
// in answer to an unknown runtime, which differ.
const (
	publishRuntimes = "nodejs20.x, python3.14, provided.al2023, python3.12, python3.13, nodejs24.x, nodejs22.x, java25, " +
		"python3.10, python3.11, java21, ruby3.3, ruby3.4, ruby3.2, python3.8, python3.9, java17, nodejs16.x, dotnet8, dotnet6, " +
		"java11, nodejs18.x, provided.al2, java8.al2"
	listRuntimes = "ruby3.5, ruby2.6, dotnetcore1.0, python3.7, nodejs8.10, nasa, ruby2.7, python2.7-greengrass, dotnetcore2.0, " +
		"python3.8, java21, dotnet6, dotnetcore2.1, python3.9, java11, nodejs6.10, provided, dotnetcore3.1, dotnet8, java25, java17, " +
		"nodejs, nodejs4.3, java8.al2, go1.x, dotnet10, nodejs20.x, go1.9, byol, nodejs10.x, provided.al2023, nodejs22.x, python3.10, " +
		"java8, nodejs12.x, python3.11, nodejs24.x, nodejs8.x, python3.12, nodejs14.x, nodejs8.9, nodejs26.x, python3.13, python3.14, " +
		"nodejs16.x, python3.15, provided.al2, nodejs4.3-edge, nodejs18.x, ruby3.2, python3.4, ruby3.3, ruby3.4, ruby2.5, python3.6, python2.7"
)

var layerRuntimes = strings.Split(listRuntimes, ", ")

func isLayerRuntime(r types.Runtime) bool {
	return slices.Contains(layerRuntimes, string(r)) || slices.Contains(r.Values(), r)
}

// layerRuntimes notes the runtimes of an operation on layers that there are
// not.
func (c *checker) layerRuntimes(in any) {
	var one types.Runtime
	switch in := in.(type) {
	case *sdk.PublishLayerVersionInput:
		if slices.ContainsFunc(in.CompatibleRuntimes, func(r types.Runtime) bool { return !isLayerRuntime(r) }) {
			c.violation("'"+display(reflect.ValueOf(in.CompatibleRuntimes))+"'", "compatibleRuntimes",
				"Member must satisfy enum value set: ["+publishRuntimes+"] or be a valid ARN")
		}
		return
	case *sdk.ListLayersInput:
		one = in.CompatibleRuntime
	case *sdk.ListLayerVersionsInput:
		one = in.CompatibleRuntime
	}
	if one != "" && !isLayerRuntime(one) {
		c.violation("'"+string(one)+"'", "compatibleRuntime", "Member must satisfy enum value set: ["+listRuntimes+"]")
	}
}
