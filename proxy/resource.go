package proxy

import (
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/proxy/expression"
)

// Resource is what APIs are for: a device, a backend.
type Resource struct {
	ID   string `json:"id"`   // of the account's resources
	Type string `json:"type"` // such as lamp; APIs may be for all of a type
	// State is a JSON object.
	State json.RawMessage `json:"state"`
	// Metadata is what does not change with calls, such as an address.
	Metadata map[string]string `json:"metadata,omitempty"`
	// Revision counts the changes, from 1.
	Revision uint64    `json:"revision"`
	Created  time.Time `json:"created"`
	Changed  time.Time `json:"changed"`
}

// The bounds of resources.
const (
	MaxState     = 64 << 10 // bytes of JSON
	MaxMetadata  = 50       // entries
	maxText      = 1024     // bytes of a metadata value
	MaxResources = 100_000  // of an account
)

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

// CheckName says what is wrong with the name of a resource, a type, an API or a
// key.
func CheckName(what, name string) error {
	if !namePattern.MatchString(name) {
		return hearth.Errorf(hearth.InvalidParameter, "%s: %.140q is no name: 1 to 128 letters, digits, and after the first _ . -", what, name)
	}
	return nil
}

// check says what of a resource can't be, and gives its state decoded.
func (r *Resource) check() (map[string]any, error) {
	if err := CheckName("id", r.ID); err != nil {
		return nil, err
	}
	if err := CheckName("type", r.Type); err != nil {
		return nil, err
	}
	if len(r.Metadata) > MaxMetadata {
		return nil, hearth.Errorf(hearth.InvalidParameter, "metadata: %d entries; at most %d are allowed", len(r.Metadata), MaxMetadata)
	}
	for name, v := range r.Metadata {
		if err := CheckName("metadata", name); err != nil {
			return nil, err
		}
		if len(v) > maxText {
			return nil, hearth.Errorf(hearth.InvalidParameter, "metadata: %s has %d bytes; at most %d are allowed", name, len(v), maxText)
		}
	}
	if len(r.State) == 0 || string(r.State) == "null" { // as Go's encoder writes none
		r.State = json.RawMessage("{}")
	}
	v, err := expression.FromJSON(r.State)
	if err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "state: %v", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, hearth.Errorf(hearth.InvalidParameter, "state: it must be an object, such as {\"level\": 0}")
	}
	r.State, err = encodeState(m)
	return m, err
}

// encodeState is the state as JSON, its keys in order.
func encodeState(m map[string]any) (json.RawMessage, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxState {
		return nil, hearth.Errorf(hearth.InvalidParameter, "state: %d bytes of JSON; at most %d are allowed", len(b), MaxState)
	}
	return b, nil
}

// metadata is r.Metadata as expressions have it.
func (r *Resource) metadata() map[string]any {
	m := make(map[string]any, len(r.Metadata))
	for k, v := range r.Metadata {
		m[k] = v
	}
	return m
}

func notFound(what, id string) error {
	return hearth.Errorf(hearth.NotFound, "There is no %s %.140q.", what, fmt.Sprint(id))
}
