package lambda

import "github.com/aws/smithy-go"

// operationTable is the operations of one area, by name.
type operationTable map[string]func(*Handler, *call, any) (smithy.Serializable, error)

// serve fits a typed operation into a table.
func serve[I any](f func(*Handler, *call, *I) (smithy.Serializable, error)) func(*Handler, *call, any) (smithy.Serializable, error) {
	return func(h *Handler, c *call, in any) (smithy.Serializable, error) { return f(h, c, in.(*I)) }
}

// built are the operations that Hearth has; Invoke and
// InvokeWithResponseStream are served apart.
var built = merge(
	functionOperations,
	aliasOperations,
	layerOperations,
	permissionOperations,
	concurrencyOperations,
	capacityOperations,
	eventInvokeOperations,
	mappingOperations,
	urlOperations,
	signingOperations,
	manageOperations,
	durableOperations,
	accountOperations,
	tagOperations,
)

func merge(tables ...operationTable) operationTable {
	all := operationTable{}
	for _, t := range tables {
		for name, run := range t {
			if all[name] != nil {
				panic("lambda: two tables have " + name)
			}
			all[name] = run
		}
	}
	return all
}
