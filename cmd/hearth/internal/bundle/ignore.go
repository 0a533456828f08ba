package bundle

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// IgnoreFile names what does not belong into the package, in .gitignore's
// syntax. .gitignore itself is not read: what git should not have, such as
// node_modules, is often just what the function needs.
const IgnoreFile = ".hearthignore"

// always is left out unless IgnoreFile brings it back with a "!" pattern.
const always = `
.git/
.hg/
.svn/
.hearthignore
.gitignore
.DS_Store
.venv/
__pycache__/
*.pyc
.pytest_cache/
.mypy_cache/
.idea/
.vscode/
`

// rules decides what is left out; the last rule that matches counts.
type rules []rule

type rule struct {
	pattern *regexp.Regexp // of a slash-separated path relative to the folder
	dirOnly bool
	keep    bool
}

func loadRules(dir string) (rules, error) {
	rs := parseRules(always)
	data, err := os.ReadFile(filepath.Join(dir, IgnoreFile))
	if errors.Is(err, fs.ErrNotExist) {
		return rs, nil
	}
	return append(rs, parseRules(string(data))...), err
}

func parseRules(text string) rules {
	var rs rules
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		var r rule
		if line, r.keep = strings.CutPrefix(line, "!"); r.keep && line == "" {
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		line = strings.TrimPrefix(line, `\`) // for names that begin with # or !
		line, r.dirOnly = strings.CutSuffix(line, "/")
		// A slash before the end ties the pattern to the folder itself.
		anchored := strings.Contains(line, "/")
		r.pattern = compile(strings.TrimPrefix(line, "/"), anchored)
		rs = append(rs, r)
	}
	return rs
}

func compile(glob string, anchored bool) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^")
	if !anchored {
		b.WriteString("(.*/)?")
	}
	for rest := glob; rest != ""; {
		if after, ok := strings.CutPrefix(rest, "**/"); ok {
			b.WriteString("(.*/)?")
			rest = after
			continue
		}
		if after, ok := strings.CutPrefix(rest, "**"); ok {
			b.WriteString(".*")
			rest = after
			continue
		}
		c, n := utf8.DecodeRuneInString(rest)
		switch c {
		case '*':
			b.WriteString("[^/]*")
		case '?':
			b.WriteString("[^/]")
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
		rest = rest[n:]
	}
	b.WriteString("$")
	return regexp.MustCompile(b.String()) // every character was quoted or translated
}

// leavesOut tells whether the path, slash-separated and relative, is left
// out. A folder that is left out is not looked into.
func (rs rules) leavesOut(path string, dir bool) bool {
	out := false
	for _, r := range rs {
		if (!r.dirOnly || dir) && r.pattern.MatchString(path) {
			out = !r.keep
		}
	}
	return out
}
