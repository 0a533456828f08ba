package pattern

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A glob is a text with wildcards, cut at them. Between first and last piece
// the others are found one after another, each as early as it can be: so no
// choice is ever taken back, and the time is that of looking for each piece
// once.
type glob []string

// compileGlob reads a text in which * is any text, \* a star and \\ a
// backslash.
func compileGlob(s string) (glob, error) {
	var g glob
	var piece strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '*':
			if i > 0 && s[i-1] == '*' && piece.Len() == 0 && len(g) > 0 {
				return nil, fmt.Errorf("two wildcards side by side at byte %d", i)
			}
			g = append(g, piece.String())
			piece.Reset()
		case s[i] != '\\':
			piece.WriteByte(s[i])
		case i+1 == len(s) || s[i+1] != '*' && s[i+1] != '\\':
			return nil, errors.New(`a backslash must be followed by * or \`)
		default:
			i++
			piece.WriteByte(s[i])
		}
	}
	return append(g, piece.String()), nil
}

func (g glob) match(s string) bool {
	if len(g) == 1 {
		return s == g[0]
	}
	s, ok := strings.CutPrefix(s, g[0])
	if !ok {
		return false
	}
	last := len(g) - 1
	for _, piece := range g[1:last] {
		i := strings.Index(s, piece)
		if i < 0 {
			return false
		}
		s = s[i+len(piece):]
	}
	return strings.HasSuffix(s, g[last])
}

// folded returns one rune for all that differ in case only.
func folded(r rune) rune {
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	return least
}

func foldPrefix(s, prefix string) bool {
	for _, want := range prefix {
		r, size := utf8.DecodeRuneInString(s)
		if size == 0 || r != want && folded(r) != folded(want) {
			return false
		}
		s = s[size:]
	}
	return true
}

func foldSuffix(s, suffix string) bool {
	for suffix != "" {
		want, n := utf8.DecodeLastRuneInString(suffix)
		r, size := utf8.DecodeLastRuneInString(s)
		if size == 0 || r != want && folded(r) != folded(want) {
			return false
		}
		s, suffix = s[:len(s)-size], suffix[:len(suffix)-n]
	}
	return true
}
