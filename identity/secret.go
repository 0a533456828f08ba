// Package identity makes and checks credentials: the account's root key, made
// at the first start, and short-lived sessions for functions. It also keeps
// the master key, which seals secrets at rest.
package identity

import "fmt"

// Secret is a text that must not be seen by accident: however it is printed,
// logged or marshalled it shows as [redacted], and inside of other types as
// an address. (A string type would not do: fmt prints those plainly where
// they stand in unexported fields.) The zero Secret is the empty text.
type Secret struct{ text *string }

// NewSecret hides text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

const redacted = "[redacted]"

// Format prints [redacted] whatever the verb is.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// String returns [redacted].
func (Secret) String() string { return redacted }

// MarshalText returns [redacted]; it serves JSON and slog too.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
