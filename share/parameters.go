package share

import (
	"maps"
	"slices"
	"strings"

	"github.com/hearth-faas/hearth"
)

// What holds of parameters, those of offers and those of task APIs.

const (
	maxParameters = 50
	// maxValues bounds what an account sets in all for one alias, in bytes.
	maxValues = 16 << 10
)

// CheckParameters tells what is wrong with parameters that an owner declares.
func CheckParameters(ps []hearth.Parameter) error {
	if len(ps) > maxParameters {
		return invalid("parameters: there are %d, and %d is the limit.", len(ps), maxParameters)
	}
	names := map[string]bool{}
	for _, p := range ps {
		switch {
		case !validParameter(p.Name):
			return invalid("parameters: %q is not a name: a letter, then up to 127 letters, digits and underscores.", p.Name)
		case reserved(p.Name):
			return invalid("parameters: %s is a variable by which a runtime finds or loads code, so that a caller who sets it could run its own: choose another name.", p.Name)
		case names[p.Name]:
			return invalid("parameters: %s is there twice.", p.Name)
		case len(p.Default) > maxText || len(p.Description) > maxText:
			return invalid("parameters: the default or description of %s has more than %d bytes.", p.Name, maxText)
		case strings.ContainsRune(p.Default, 0):
			return invalid("parameters: the default of %s has a NUL in it.", p.Name)
		case p.Secret && p.Default != "":
			return invalid("parameters: %s is secret, so that its default would be known to all: leave it out.", p.Name)
		}
		names[p.Name] = true
	}
	return nil
}

// Set is what values are after a caller has set some of them: nil takes one away.
// Whether they are declared is not asked. Errors: InvalidParameterValue, which
// shows no value.
func Set(values map[string]string, change map[string]*string) (map[string]string, error) {
	now := map[string]string{}
	maps.Copy(now, values)
	for name, v := range change {
		switch {
		case v == nil:
			delete(now, name)
			continue
		case !validParameter(name) || reserved(name):
			return nil, invalid("parameters: %q is not a name that one can have.", name)
		case strings.ContainsRune(*v, 0):
			return nil, invalid("parameters: the value of %s has a NUL in it.", name)
		case len(*v) > maxText:
			return nil, invalid("parameters: the value of %s has more than %d bytes.", name, maxText)
		}
		now[name] = *v
	}
	size := 0
	for name, v := range now {
		size += len(name) + len(v)
	}
	if size > maxValues {
		return nil, invalid("parameters: they are %d bytes in all, and %d is the limit.", size, maxValues)
	}
	return now, nil
}

// Undeclared is a name that is to be set and that no parameter has; "" if there
// is none. What no parameter has any more can be taken away.
func Undeclared(ps []hearth.Parameter, change map[string]*string) string {
	for _, name := range slices.Sorted(maps.Keys(change)) {
		if change[name] != nil && !slices.ContainsFunc(ps, func(p hearth.Parameter) bool { return p.Name == name }) {
			return name
		}
	}
	return ""
}

// Missing is a parameter that must be set and is not; "" if there is none. set
// are the names of those that are.
func Missing(ps []hearth.Parameter, set []string) string {
	for _, p := range ps {
		if p.Required && p.Default == "" && !slices.Contains(set, p.Name) {
			return p.Name
		}
	}
	return ""
}

// Environment is the owner's with the parameters over it: as they are set, or
// else as their defaults are. What is set and not declared is not in it.
func Environment(owners map[string]string, ps []hearth.Parameter, values map[string]string) map[string]string {
	if len(ps) == 0 {
		return owners
	}
	env := map[string]string{}
	maps.Copy(env, owners)
	for _, p := range ps {
		if v, ok := values[p.Name]; ok {
			env[p.Name] = v
		} else if p.Default != "" {
			env[p.Name] = p.Default
		}
	}
	return env
}

// Names lists parameters for a sentence.
func Names(ps []hearth.Parameter) string {
	if len(ps) == 0 {
		return "none"
	}
	var all []string
	for _, p := range ps {
		all = append(all, p.Name)
	}
	return strings.Join(all, ", ")
}

func validParameter(name string) bool {
	if name == "" || len(name) > 128 || !(name[0]|0x20 >= 'a' && name[0]|0x20 <= 'z') {
		return false
	}
	for _, c := range []byte(name) {
		if c != '_' && !(c >= '0' && c <= '9') && !(c|0x20 >= 'a' && c|0x20 <= 'z') {
			return false
		}
	}
	return true
}

// reserved reports whether a variable of that name could make a caller's text
// into code, or is Hearth's own.
func reserved(name string) bool {
	upper := strings.ToUpper(name)
	for _, p := range []string{"LAMBDA_", "LD_", "NODE_", "PYTHON", "RUBY", "GEM_", "JAVA", "JDK_", "_JAVA", "DOTNET", "CORECLR", "PERL", "BASH", "HEARTH_", "GLIBC_", "MALLOC_", "GODEBUG", "GOTRACEBACK", "OPENSSL_"} {
		if strings.HasPrefix(upper, p) {
			return true
		}
	}
	if strings.HasPrefix(upper, "AWS_LAMBDA") || upper == "AWS_EXECUTION_ENV" {
		return true
	}
	return slices.Contains([]string{"PATH", "HOME", "ENV", "IFS", "SHELL", "TZ", "LANG", "TMPDIR", "XDG_CONFIG_HOME"}, upper)
}
