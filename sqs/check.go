package sqs

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hearth-faas/hearth"
)

func missing(name string) error {
	return hearth.Errorf(MissingParameter, "The request must contain the parameter %s.", name)
}

func invalidParameter(name string, value any, why string) error {
	return hearth.Errorf(InvalidParameter, "Value %v for parameter %s is invalid. Reason: %s", value, name, why)
}

// printable tells whether a body has only characters that XML can have, which
// is what the service takes.
func printable(body string) bool {
	if !utf8.ValidString(body) {
		return false
	}
	return !strings.ContainsFunc(body, func(c rune) bool {
		return c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0xFFFE || c == 0xFFFF
	})
}

// isToken tells whether s can be a group or a deduplication id.
func isToken(s string) bool {
	return len(s) <= 128 && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}

// maxAttributes is how many attributes a message may have.
const maxAttributes = 10

var (
	attributeName = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)
	attributeType = regexp.MustCompile(`^(String|Number|Binary)(\.[A-Za-z0-9_.-]+)?$`)
)

func checkAttributes(attributes map[string]Attribute) error {
	if len(attributes) > maxAttributes {
		return hearth.Errorf(InvalidParameter, "Number of message attributes [%d] exceeds the allowed maximum [%d].", len(attributes), maxAttributes)
	}
	for name, a := range attributes {
		lower := strings.ToLower(name)
		switch {
		case len(name) > 256 || !attributeName.MatchString(name) || strings.HasPrefix(lower, "aws.") || strings.HasPrefix(lower, "amazon."):
			return hearth.Errorf(InvalidParameter, "The message attribute name '%s' is invalid. Attribute name can contain A-Z, a-z, 0-9, underscore (_), hyphen (-), and period (.) characters, and must not begin with AWS. or Amazon.", name)
		case a.Type == "":
			return hearth.Errorf(InvalidParameter, "The message attribute '%s' must contain a non-empty message attribute type.", name)
		case len(a.Type) > 256 || !attributeType.MatchString(a.Type):
			return hearth.Errorf(InvalidParameter, "The message attribute '%s' has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String.", name)
		case len(a.Value) == 0:
			return hearth.Errorf(InvalidParameter, "The message attribute '%s' must contain a non-empty message attribute value for the type '%s'.", name, a.Type)
		case !a.Binary() && !printable(string(a.Value)):
			return hearth.Errorf(InvalidContents, "The value of the message attribute '%s' has invalid characters.", name)
		}
		if a.Type == "Number" || strings.HasPrefix(a.Type, "Number.") {
			if _, err := strconv.ParseFloat(string(a.Value), 64); errors.Is(err, strconv.ErrSyntax) {
				return hearth.Errorf(InvalidParameter, "Can't cast the value of message attribute '%s' to a number.", name)
			}
		}
	}
	return nil
}
