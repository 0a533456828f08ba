package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// BuildError is what the Go compiler said.
type BuildError struct{ Output string }

func (e *BuildError) Error() string { return "go build says: " + e.Output }

// ErrNoGo means that there is no Go on this machine to build with.
var ErrNoGo = errors.New("the go command is not on the PATH")

// BuildGo builds the main package in dir as a static Linux binary for goarch
// and packs it, and nothing else, as the bootstrap of a package.
func BuildGo(ctx context.Context, dir, goarch string) (*Package, error) {
	tool, err := exec.LookPath("go")
	if err != nil {
		return nil, ErrNoGo
	}
	tmp, err := os.MkdirTemp("", "hearth-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp) // a leftover in the temporary folder harms nothing
	out := filepath.Join(tmp, "bootstrap")
	// lambda.norpc leaves out of aws-lambda-go what only the retired go1.x
	// runtime needs; -trimpath makes the bytes depend on the code alone.
	cmd := exec.CommandContext(ctx, tool, "build", "-trimpath", "-ldflags=-s -w", "-tags=lambda.norpc", "-buildvcs=false", "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if text := strings.TrimSpace(said.String()); text != "" {
			return nil, &BuildError{text}
		}
		return nil, fmt.Errorf("go build: %w", err)
	}
	return ZipFile(ctx, "bootstrap", out)
}
