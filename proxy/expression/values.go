package expression

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// The bounds of a value that an expression comes to, or that one is given.
const (
	MaxDepth = 64
	maxNodes = 200_000
)

// FromJSON reads one JSON document into a value of which expressions can be
// given: whole numbers of 64 bits are int64, other numbers float64. Errors say
// what is wrong with the document.
func FromJSON(data []byte) (any, error) {
	if err := shallow(data); err != nil {
		return nil, err
	}
	var raw any
	if err := decodeNumbers(data, &raw); err != nil {
		return nil, err
	}
	return Plain(raw)
}

// shallow refuses JSON that nests too deeply, before anything recurses.
func shallow(data []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return fmt.Errorf("it nests deeper than %d", MaxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// Plain makes of a decoded JSON value, whose numbers may be json.Number, one that
// expressions can be given. The value is made anew.
func Plain(v any) (any, error) {
	switch v := v.(type) {
	case json.Number:
		return Number(v.String())
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			var err error
			if list[i], err = Plain(item); err != nil {
				return nil, err
			}
		}
		return list, nil
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, item := range v {
			var err error
			if m[key], err = Plain(item); err != nil {
				return nil, err
			}
		}
		return m, nil
	}
	return v, nil
}

// Number is the value of a JSON number's text.
func Number(text string) (any, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !json.Valid([]byte(text)) { // ParseFloat takes "inf" and "0x1p4"
		return nil, fmt.Errorf("%.40q is no number that can be kept", text)
	}
	return f, nil
}

// plain makes of what an expression came to a value that JSON has.
func plain(v ref.Val) (any, error) {
	nodes := 0
	return native(v, 0, &nodes)
}

func native(v ref.Val, depth int, nodes *int) (any, error) {
	if *nodes++; *nodes > maxNodes || depth > MaxDepth {
		return nil, fmt.Errorf("it comes to more than %d values, or nests deeper than %d", maxNodes, MaxDepth)
	}
	switch v := v.(type) {
	case types.Null:
		return nil, nil
	case types.Bool:
		return bool(v), nil
	case types.Int:
		return int64(v), nil
	case types.Uint:
		if v > math.MaxInt64 {
			return float64(v), nil
		}
		return int64(v), nil
	case types.Double:
		if f := float64(v); !math.IsNaN(f) && !math.IsInf(f, 0) {
			return f, nil
		}
		return nil, errors.New("it comes to a number that JSON does not have")
	case types.String:
		return string(v), nil
	case types.Bytes:
		return base64.StdEncoding.EncodeToString(v), nil
	case types.Timestamp:
		return v.Time.UTC().Format(time.RFC3339Nano), nil
	case types.Duration:
		return strconv.FormatFloat(v.Seconds(), 'f', -1, 64) + "s", nil
	case *types.Optional:
		if !v.HasValue() {
			return nil, nil
		}
		return native(v.GetValue(), depth, nodes)
	case traits.Mapper:
		m := map[string]any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			name, ok := key.(types.String)
			if !ok {
				return nil, fmt.Errorf("it comes to a map with a key that is no text but %s", key.Type().TypeName())
			}
			item, err := native(v.Get(key), depth+1, nodes)
			if err != nil {
				return nil, err
			}
			m[string(name)] = item
		}
		return m, nil
	case traits.Lister:
		list := []any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			item, err := native(it.Next(), depth+1, nodes)
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		return list, nil
	}
	return nil, fmt.Errorf("it comes to a value of type %s, which JSON does not have", v.Type().TypeName())
}
