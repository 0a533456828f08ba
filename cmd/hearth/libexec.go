package main

import (
	"embed"
	"errors"
	"io/fs"
)

// libexec holds hearth-sandbox, the small program that runs inside sandboxes,
// in a release: make build puts it there. A plain go build has none, and this
// executable serves as it then, at the cost of a slower start of each sandbox.
//
//go:embed all:libexec
var libexec embed.FS

// sandboxProgram is the embedded program; nil if there is none.
func sandboxProgram() ([]byte, error) {
	program, err := libexec.ReadFile("libexec/hearth-sandbox")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return program, err
}
