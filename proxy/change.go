package proxy

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// mergePatch applies a JSON merge patch (RFC 7396). The target is not changed,
// and may share parts with what is returned.
func mergePatch(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, _ := target.(map[string]any)
	out := make(map[string]any, len(t)+len(p))
	maps.Copy(out, t)
	for key, v := range p {
		if v == nil {
			delete(out, key)
		} else {
			out[key] = mergePatch(out[key], v)
		}
	}
	return out
}

// addNumbers adds numbers to those that the state has at JSON pointers (RFC
// 6901); where it has nothing, it has 0. The state is not changed.
func addNumbers(state map[string]any, adds map[string]any) (map[string]any, error) {
	for _, pointer := range slices.Sorted(maps.Keys(adds)) {
		switch adds[pointer].(type) {
		case int64, float64:
		default:
			return nil, fmt.Errorf("what is added at %q is no number", pointer)
		}
		path, err := parsePointer(pointer)
		if err != nil {
			return nil, err
		}
		v, err := addAt(state, path, adds[pointer])
		if err != nil {
			return nil, fmt.Errorf("at %q: %w", pointer, err)
		}
		state = v.(map[string]any)
	}
	return state, nil
}

func parsePointer(pointer string) ([]string, error) {
	rest, ok := strings.CutPrefix(pointer, "/")
	if !ok {
		return nil, fmt.Errorf("%q is no JSON pointer, such as /count", pointer)
	}
	parts := strings.Split(rest, "/")
	for i, p := range parts {
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(p, "~1", "/"), "~0", "~")
	}
	return parts, nil
}

func addAt(v any, path []string, by any) (any, error) {
	if len(path) == 0 {
		return sum(v, by)
	}
	switch v := v.(type) {
	case nil:
		inner, err := addAt(nil, path[1:], by)
		return map[string]any{path[0]: inner}, err
	case map[string]any:
		inner, err := addAt(v[path[0]], path[1:], by)
		if err != nil {
			return nil, err
		}
		out := maps.Clone(v)
		out[path[0]] = inner
		return out, nil
	case []any:
		i, err := strconv.Atoi(path[0])
		if err != nil || i < 0 || i >= len(v) {
			return nil, fmt.Errorf("the list has no item %.40q", path[0])
		}
		inner, err := addAt(v[i], path[1:], by)
		if err != nil {
			return nil, err
		}
		out := slices.Clone(v)
		out[i] = inner
		return out, nil
	}
	return nil, fmt.Errorf("there is nothing below %v", v)
}

// sum adds whole numbers as such, as long as 64 bits hold them.
func sum(a, b any) (any, error) {
	if a == nil {
		a = int64(0)
	}
	m, ok1 := a.(int64)
	n, ok2 := b.(int64)
	if s := m + n; ok1 && ok2 && (s > m) == (n > 0) {
		return s, nil
	}
	x, ok := float(a)
	if !ok {
		return nil, errors.New("the state has something there that is no number")
	}
	y, _ := float(b)
	if math.IsInf(x+y, 0) {
		return nil, errors.New("the sum is more than a number can be")
	}
	return x + y, nil
}

func float(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}
