package runtimes

import (
	"slices"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox"
)

// Image is what a container image says of how it is run.
type Image struct {
	EntryPoint, Command, Env []string
	WorkingDirectory         string
}

// ForImage is the choice that runs a function from an image: there is nothing
// of the machine's in it. What the function's own configuration overrides
// StartProcess takes from that.
func ForImage(i Image) Choice { return Choice{image: &i} }

// defaultPath is where programs of an image are looked for that has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environ is what an image's processes find before the function's variables.
// A later one of a name wins, as it does in an image.
func (i *Image) environ() map[string]string {
	env := map[string]string{"PATH": defaultPath, "TZ": ":UTC"}
	for _, entry := range i.Env {
		if key, value, ok := strings.Cut(entry, "="); ok && !Reserved(key) {
			env[key] = value
		}
	}
	return env
}

// process is what the image, or the function in its place, has started.
// Another entry point comes without the image's command, as with every runner
// of images.
func (i *Image) process(f *hearth.Function, env []string) (sandbox.Process, error) {
	entry, command, dir := i.EntryPoint, i.Command, i.WorkingDirectory
	if own := f.Image; own != nil {
		if len(own.EntryPoint) > 0 {
			entry, command = own.EntryPoint, nil
		}
		if len(own.Command) > 0 {
			command = own.Command
		}
		if own.WorkingDirectory != "" {
			dir = own.WorkingDirectory
		}
	}
	p := sandbox.Process{Argv: slices.Concat(entry, command), Env: env, Dir: dir}
	if len(p.Argv) == 0 || p.Argv[0] == "" {
		return p, hearth.Errorf(hearth.InvalidImage, "The image has no ENTRYPOINT and no CMD, and the function's ImageConfig has none")
	}
	if p.Dir == "" {
		p.Dir = "/"
	}
	return p, nil
}
