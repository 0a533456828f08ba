package lambda

import (
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

// target is what a FunctionName names: a name, a partial ARN or a full ARN,
// each with or without a qualifier. Fields that were not given are "".
type target struct {
	region    string
	account   hearth.Account
	name      string
	qualifier string
}

// parseName reads [arn:aws:lambda:][region:][account:][function:]name[:qualifier],
// which is the pattern of NamespacedFunctionName. It reports false for what
// does not match it; the pattern then says so in the service's words. It is by
// hand since it is on the warm path, where it costs nothing to speak of.
func parseName(s string) (t target, ok bool) {
	if len(s) == 0 || len(s) > 256 {
		return t, false
	}
	rest := s
	next := func() (part string, last bool) {
		part, _, more := strings.Cut(rest, ":")
		return part, !more
	}
	take := func(part string) { rest = rest[len(part)+1:] }

	full := false
	if strings.HasPrefix(rest, "arn:") {
		parts := strings.SplitN(rest, ":", 4)
		if len(parts) < 4 || !isPartition(parts[1]) || parts[2] != "lambda" {
			return t, false
		}
		rest, full = parts[3], true
	}
	if part, last := next(); !last && isRegion(part) {
		t.region = part
		take(part)
	} else if full {
		return t, false
	}
	if part, last := next(); !last && isAccount(part) {
		t.account = hearth.Account(part)
		take(part)
	} else if full {
		return t, false
	}
	if part, last := next(); !last && part == "function" {
		take(part)
	} else if full {
		return t, false
	}
	var qualified bool
	t.name, t.qualifier, qualified = strings.Cut(rest, ":")
	if !isWord(t.name, ".") || qualified && t.qualifier != hearth.Latest && t.qualifier != hearth.LatestPublished && !isWord(t.qualifier, "") {
		return target{}, false
	}
	return t, true
}

func isPartition(s string) bool {
	return s == "" || strings.HasPrefix(s, "aws") && isWord(s, "") && !strings.ContainsAny(s, "_0123456789")
}

func isAccount(s string) bool {
	if len(s) != 12 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// isRegion tells names such as us-east-1 and us-gov-west-1: words of letters
// and then one digit, separated by dashes.
func isRegion(s string) bool {
	n := len(s)
	if n < 6 || s[n-1] < '0' || s[n-1] > '9' || s[n-2] != '-' {
		return false
	}
	words := 1
	for i := range n - 2 {
		if s[i] == '-' {
			words++
		} else if s[i] < 'a' || s[i] > 'z' {
			return false
		}
	}
	return words >= 2 && words <= 4 && s[0] != '-'
}

// isWord tells a name made of letters, digits, dashes, underscores and the
// bytes of also.
func isWord(s, also string) bool {
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' ||
			strings.IndexByte(also, c) >= 0 {
			continue
		}
		return false
	}
	return s != ""
}

// resolve merges what a FunctionName says with the Qualifier beside it and the
// caller's account. Whether the caller may is another question.
func (h *Handler) resolve(t target, qualifier string, id hearth.Identity) (target, error) {
	if t.region != "" && t.region != h.region {
		return t, hearth.Errorf(hearth.NotFound, "Functions from '%s' are not reachable in this region ('%s')", t.region, h.region)
	}
	if t.account == "" {
		t.account = id.Account
	}
	if qualifier != "" {
		if t.qualifier != "" && t.qualifier != qualifier {
			return t, hearth.Errorf(hearth.InvalidParameter, "The derived qualifier from the function name does not match the specified qualifier.")
		}
		t.qualifier = qualifier
	}
	return t, nil
}

// arn is the ARN of what t names, with its qualifier.
func (t target) arn(region string) string {
	arn := "arn:aws:lambda:" + region + ":" + string(t.account) + ":function:" + t.name
	if t.qualifier != "" {
		arn += ":" + t.qualifier
	}
	return arn
}
