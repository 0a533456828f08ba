package body

import (
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"unicode/utf8"
)

// maxFields bounds a form.
const maxFields = 10_000

// decodeForm reads application/x-www-form-urlencoded. A field is a text, one that
// comes several times a list of them.
func decodeForm(data []byte) (any, error) {
	values, err := url.ParseQuery(string(data))
	if err != nil {
		return nil, err
	}
	for name, all := range values {
		for _, text := range append(all, name) {
			if !utf8.ValidString(text) {
				return nil, errNotUTF8
			}
		}
	}
	if len(values) > maxFields {
		return nil, errors.New("it has too many fields")
	}
	return Values(values), nil
}

// Values is a form's fields, or a query's, as a map.
func Values(values url.Values) map[string]any {
	m := make(map[string]any, len(values))
	for name, all := range values {
		if len(all) == 1 {
			m[name] = all[0]
			continue
		}
		list := make([]any, len(all))
		for i, v := range all {
			list[i] = v
		}
		m[name] = list
	}
	return m
}

// encodeForm writes a map's members as fields; one that is a list is several, and
// what nests deeper is written as JSON.
func encodeForm(v any) ([]byte, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("only a map can be written as a form")
	}
	values := url.Values{}
	for name, item := range m {
		list, ok := item.([]any)
		if !ok {
			list = []any{item}
		}
		for _, item := range list {
			s, err := text(item)
			if err != nil {
				return nil, err
			}
			values.Add(name, s)
		}
	}
	return []byte(values.Encode()), nil
}

// text is a value in a place that has text only.
func text(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}
