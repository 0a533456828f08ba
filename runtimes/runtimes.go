// Package runtimes knows the language interpreters of this machine and brings
// Hearth's own runtime clients for them.
//
// [Discover] finds node and python interpreters and what a sandbox must show
// to run them. [Set.For] answers which one serves a runtime identifier of the
// Lambda API. The clients are scripts (client/), embedded in the binary and
// laid out by [Install]; they take invocations from the runtime API and run
// the handler.
//
// # How a booted process gets its function
//
// A process of the warming pool is started by [Choice.BootProcess] before its
// function is known: it loads everything, connects to the runtime API, writes
// the byte [Ready] to sandbox.ControlFD and sleeps in a read of it. One message
// ([Choice.LoadMessage]) names the environment; the client makes it its own,
// imports the handler and asks for the first event. End of file instead ends
// the process.
package runtimes

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

// Ready is what a booted process writes to sandbox.ControlFD once it waits for
// its function.
const Ready = 'R'

// Language is what an interpreter interprets.
type Language string

// The languages. Provided is code that brings its own bootstrap program.
const (
	Node     Language = "nodejs"
	Python   Language = "python"
	Provided Language = "provided"
)

// Version is an interpreter's version, or a runtime identifier's with only the
// fields that the identifier has.
type Version struct{ Major, Minor, Patch int }

// String gives the version with all three fields.
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Set is what was found on the machine. It does not change and is safe for
// concurrent use.
type Set struct {
	interpreters []*Interpreter // best first within a language's version
	files        string         // where the clients are laid out
	strict       bool
	rejected     []Rejected
}

// Rejected is a program that looked like an interpreter and cannot be used.
type Rejected struct {
	Path   string
	Reason string
}

// Rejected lists the programs that cannot be used, for `hearth doctor`.
func (s *Set) Rejected() []Rejected { return slices.Clone(s.rejected) }

// Interpreters lists what was found, by language and version.
func (s *Set) Interpreters() []*Interpreter { return slices.Clone(s.interpreters) }

// runtime is one runtime identifier of the Lambda API.
type runtime struct {
	id       string
	language Language
	version  Version // major for node, major and minor for python
}

// supported are the runtimes that Hearth runs, newest first.
var supported = []runtime{
	{"nodejs24.x", Node, Version{24, 0, 0}},
	{"nodejs22.x", Node, Version{22, 0, 0}},
	{"nodejs20.x", Node, Version{20, 0, 0}},
	{"nodejs18.x", Node, Version{18, 0, 0}},
	{"python3.14", Python, Version{3, 14, 0}},
	{"python3.13", Python, Version{3, 13, 0}},
	{"python3.12", Python, Version{3, 12, 0}},
	{"python3.11", Python, Version{3, 11, 0}},
	{"python3.10", Python, Version{3, 10, 0}},
	{"python3.9", Python, Version{3, 9, 0}},
	{"provided.al2023", Provided, Version{}},
	{"provided.al2", Provided, Version{}},
	{"provided", Provided, Version{}},
}

// retired are identifiers that the service had and takes no more.
var retired = []string{
	"nodejs", "nodejs4.3", "nodejs4.3-edge", "nodejs6.10", "nodejs8.10", "nodejs10.x", "nodejs12.x", "nodejs14.x", "nodejs16.x",
	"python2.7", "python3.6", "python3.7", "python3.8", "java8", "dotnetcore1.0", "dotnetcore2.0", "dotnetcore2.1",
	"dotnetcore3.1", "dotnet6", "go1.x", "ruby2.5", "ruby2.7",
}

// foreign are identifiers that the service runs and Hearth does not.
var foreign = []string{
	"java25", "java21", "java17", "java11", "java8.al2", "dotnet10", "dotnet8", "ruby4.0", "ruby3.4", "ruby3.3", "ruby3.2",
}

// IDs are the runtime identifiers that Hearth runs, newest first.
func IDs() []string {
	ids := make([]string, len(supported))
	for i, r := range supported {
		ids[i] = r.id
	}
	return ids
}

// For tells what runs functions of a runtime identifier: the interpreter of
// that version or, unless the set is strict, the nearest one, which
// Choice.Note then says. Errors: InvalidParameter.
func (s *Set) For(id string) (Choice, error) {
	i := slices.IndexFunc(supported, func(r runtime) bool { return r.id == id })
	if i < 0 {
		return Choice{}, unknown(id)
	}
	r := supported[i]
	if r.language == Provided {
		return Choice{runtime: r, files: s.files, exact: true}, nil
	}
	in := s.nearest(r)
	if in == nil {
		return Choice{}, hearth.Errorf(hearth.InvalidParameter, "The runtime %s cannot run here: this machine has no %s interpreter that Hearth knows. Install one, or name its folder to hearth up.", id, program(r.language))
	}
	c := Choice{runtime: r, interpreter: in, files: s.files, exact: in.serves(r)}
	if !c.exact {
		if s.strict {
			return Choice{}, hearth.Errorf(hearth.InvalidParameter, "The runtime %s cannot run here: this machine has %s %s, and Hearth was told to be strict about versions.", id, program(r.language), in.Version)
		}
		c.note = fmt.Sprintf("%s %s serves %s: the machine lacks the version asked for", program(r.language), in.Version, id)
	}
	return c, nil
}

// nearest is the interpreter with the least distance in versions, the newer of
// two equally far.
func (s *Set) nearest(r runtime) *Interpreter {
	var best *Interpreter
	for _, in := range s.interpreters {
		if in.Language != r.language {
			continue
		}
		if best == nil || compareDistance(in.Version, best.Version, r) < 0 {
			best = in
		}
	}
	return best
}

func compareDistance(a, b Version, r runtime) int {
	distance := func(v Version) int {
		d := (v.Major-r.version.Major)*100 + v.Minor - r.version.Minor
		if r.language == Node {
			d = v.Major - r.version.Major
		}
		return max(d, -d)
	}
	major := func(v Version) int { return v.Major*100 + v.Minor }
	return cmp.Or(cmp.Compare(distance(a), distance(b)), cmp.Compare(major(b), major(a)))
}

// unknown words the service's answer to an identifier that is not run.
func unknown(id string) error {
	if slices.Contains(retired, id) {
		return hearth.Errorf(hearth.InvalidParameter, "The runtime parameter of %s is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions.", id)
	}
	if slices.Contains(foreign, id) {
		return hearth.Errorf(hearth.InvalidParameter, "The runtime %s is one that Hearth does not run. It runs %s; anything else as provided.al2023 with a bootstrap of its own.", id, strings.Join(IDs(), ", "))
	}
	return hearth.Errorf(hearth.InvalidParameter, "Value %s at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [%s] or be a valid ARN", id, strings.Join(IDs(), ", "))
}

func program(l Language) string {
	if l == Node {
		return "node"
	}
	return string(l)
}

// Info tells of one runtime identifier, for `hearth runtimes`.
type Info struct {
	Runtime     string `json:"runtime"`
	Boot        string `json:"boot,omitempty"`
	Interpreter string `json:"interpreter,omitempty"` // its path on the host
	Version     string `json:"version,omitempty"`
	Exact       bool   `json:"exact"`
	Usable      bool   `json:"usable"`
	Note        string `json:"note,omitempty"` // which interpreter stands in, or why there is none
}

// List tells of every runtime that Hearth runs what would serve it here.
func (s *Set) List() []Info {
	list := make([]Info, len(supported))
	for i, r := range supported {
		list[i] = Info{Runtime: r.id}
		c, err := s.For(r.id)
		if err != nil {
			list[i].Note = err.(*hearth.Error).Message
			continue
		}
		list[i].Usable, list[i].Exact, list[i].Note, list[i].Boot = true, c.exact, c.note, string(c.Boot())
		if c.interpreter != nil {
			list[i].Interpreter, list[i].Version = c.interpreter.Path, c.interpreter.Version.String()
		} else {
			list[i].Note = "a program named bootstrap in the package or a layer"
		}
	}
	return list
}

// Boots are the boots that the runtimes of this machine have, each with a
// runtime identifier that is served by it, sorted. "" is not among them.
func (s *Set) Boots() []hearth.Boot {
	set := map[hearth.Boot]bool{}
	for _, r := range supported {
		if c, err := s.For(r.id); err == nil && c.Boot() != "" {
			set[c.Boot()] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// ForBoot is the choice that boots slots of the given boot, for a pool that
// does not know a function yet. Errors: Service, for a boot that nothing here
// has.
func (s *Set) ForBoot(boot hearth.Boot) (Choice, error) {
	if boot == "" {
		return Choice{runtime: runtime{language: Provided}, files: s.files, exact: true}, nil
	}
	for _, in := range s.interpreters {
		if in.boot() == boot {
			return Choice{
				runtime:     runtime{language: in.Language, version: in.Version},
				interpreter: in, files: s.files, exact: true,
			}, nil
		}
	}
	return Choice{}, &hearth.Error{Op: "runtimes.ForBoot", Subject: string(boot), Kind: hearth.Service, Message: "no such interpreter on this machine"}
}
