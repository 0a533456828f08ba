package lambda

// Operation tells of one operation of the API whether Hearth has it.
type Operation struct {
	Name   string `json:"name"`
	Method string `json:"method"`
	Path   string `json:"path"` // the URI template
	Built  bool   `json:"built"`
	Note   string `json:"note,omitempty"` // what of it is not, or otherwise than at the service
}

// notes are by operation.
var notes = map[string]string{
	"CreateCapacityProvider":       "a named share of this machine; instance types and scaling policies are kept without effect",
	"CreateEventSourceMapping":     "kept and passed through its states; nothing polls the source yet",
	"CreateFunction":               "SnapStart is kept and stays off",
	"PutFunctionEventInvokeConfig": "functions are destinations; what is sent elsewhere is parked",
}

// Operations are all operations of the API, in the order of their names: made
// of what is routed and of what is built, so that it cannot say otherwise.
func Operations() []Operation {
	all := make([]Operation, 0, len(operations))
	for _, op := range operations {
		o := Operation{Name: op.name, Method: op.method, Built: op == invokeOperation || op == streamOperation || built[op.name] != nil, Note: notes[op.name]}
		for _, s := range op.path {
			if o.Path += "/"; s.label != "" {
				o.Path += "{" + s.label + "}"
			} else {
				o.Path += s.literal
			}
		}
		all = append(all, o)
	}
	return all
}
