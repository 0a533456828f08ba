package control

import (
	"encoding/json"
	"strings"
	"sync"
)

// ActionOf names what a path below Prefix does as policies and the audit log
// do: hearth: and its operation in openapi.json, as in hearth:SetPolicy.
func ActionOf(path string) string {
	if action := actionNames()[path]; action != "" {
		return action
	}
	return SigningService + ":unknown"
}

// actionNames are the actions of the paths.
var actionNames = sync.OnceValue(func() map[string]string {
	var d struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(openAPI, &d); err != nil {
		panic(err) // it is part of the program
	}
	names := map[string]string{}
	for path, methods := range d.Paths {
		for _, op := range methods {
			if op.OperationID != "" {
				names[path] = SigningService + ":" + strings.ToUpper(op.OperationID[:1]) + op.OperationID[1:]
			}
		}
	}
	return names
})
