package poll

import (
	"encoding/json"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Records is the event that most sources send: {"Records": [...]}, with the
// bodies as they are.
func Records(records []*Record) ([]byte, error) {
	return append(AppendBodies([]byte(`{"Records":`), records), '}'), nil
}

// AppendBodies appends the records' bodies to dst as a JSON list.
func AppendBodies(dst []byte, records []*Record) []byte {
	dst = append(dst, '[')
	for i, r := range records {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, r.Body...)
	}
	return append(dst, ']')
}

// TextOrJSON is what a filter sees of a text: the JSON that it is, or else the
// text as a JSON string. Text that is not UTF-8 is seen with replacements.
func TextOrJSON(text []byte) json.RawMessage {
	if json.Valid(text) {
		return text
	}
	if !utf8.Valid(text) {
		text = []byte(strings.ToValidUTF8(string(text), "\uFFFD"))
	}
	quoted, err := json.Marshal(string(text))
	if err != nil {
		panic(err) // a string can always be marshalled
	}
	return quoted
}

// Login is the name and the password that a place's URL and secret give: those
// of a secret {"username": "u", "password": "p"}, or "u:p", or only a password
// beside the URL's name.
func Login(u *url.URL, secret []byte) (user, password string) {
	if u != nil && u.User != nil {
		user = u.User.Username()
		password, _ = u.User.Password()
	}
	text := strings.TrimSpace(string(secret))
	if text == "" {
		return user, password
	}
	var both struct{ Username, Password string }
	if strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &both) == nil {
		if both.Username != "" {
			user = both.Username
		}
		return user, both.Password
	}
	if name, rest, ok := strings.Cut(text, ":"); ok && user == "" {
		return name, rest
	}
	return user, text
}
