package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The paths of the two APIs.
const (
	Path     = "/2022-07-01/telemetry"
	LogsPath = "/2020-08-15/logs"
)

// The bounds and defaults of buffering, which are the service's.
const (
	minItems, maxItems     = 1000, 10000
	minBytes, maxBytes     = 256 << 10, 1 << 20
	minTimeout, maxTimeout = 25, 30000 // ms

	defaultItems, defaultBytes, defaultTimeout = 10000, 256 << 10, 1000
)

// reservedPort is the runtime API's own.
const reservedPort = 9001

// schemas are the versions of events that each API can send, the default
// first. Only the Logs API takes a request that names none.
var (
	schemas     = []string{"2022-07-01", "2022-12-13", "2025-01-29"}
	logsSchemas = []string{"2020-08-15", "2021-03-18"}
)

// The categories of events.
const (
	Platform  = "platform"
	Function  = "function"
	Extension = "extension"
)

var categories = []string{Platform, Function, Extension}

// subscription is what a subscriber asked for.
type subscription struct {
	logs     bool // the Logs API
	schema   string
	types    []string
	maxItems int
	maxBytes int
	timeout  time.Duration
	port     int
	method   string // of HTTP; "" for TCP
	path     string // of HTTP, with the query
}

func (s *subscription) wants(category string) bool { return slices.Contains(s.types, category) }

// request is a subscription as it is written.
type request struct {
	Schema      *string         `json:"schemaVersion"`
	Types       []string        `json:"types"`
	Destination json.RawMessage `json:"destination"`
	Buffering   struct {
		MaxItems  *int `json:"maxItems"`
		MaxBytes  *int `json:"maxBytes"`
		TimeoutMs *int `json:"timeoutMs"`
	} `json:"buffering"`
}

type destination struct {
	Protocol string `json:"protocol"`
	URI      string `json:"URI"`
	Port     *int   `json:"port"`
	Method   string `json:"method"`
	Encoding string `json:"encoding"`
}

// parse reads a subscription. Its error names everything that is wrong, as the
// service's does.
func parse(body []byte, logs bool) (*subscription, error) {
	var req request
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	var wrong []string
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	s := &subscription{logs: logs}
	known := schemas
	if logs {
		known, s.schema = logsSchemas, logsSchemas[0]
	}
	if req.Schema != nil {
		s.schema = *req.Schema
	}
	refuse(s.schema == "", "schemaVersion is not provided")
	refuse(s.schema != "" && !slices.Contains(known, s.schema), "schemaVersion should be one of %s", strings.Join(known, ", "))
	refuse(len(req.Types) == 0, "types should not be empty")
	for _, t := range req.Types {
		refuse(!slices.Contains(categories, t), "types should be of %s", strings.Join(categories, ", "))
		if !slices.Contains(s.types, t) {
			s.types = append(s.types, t)
		}
	}
	buffer := func(name string, value *int, least, most, standard int) int {
		if value == nil {
			return standard
		}
		refuse(*value < least || *value > most, "%s should be between %d and %d", name, least, most)
		return *value
	}
	s.maxItems = buffer("maxItems", req.Buffering.MaxItems, minItems, maxItems, defaultItems)
	s.maxBytes = buffer("maxBytes", req.Buffering.MaxBytes, minBytes, maxBytes, defaultBytes)
	s.timeout = time.Duration(buffer("timeoutMs", req.Buffering.TimeoutMs, minTimeout, maxTimeout, defaultTimeout)) * time.Millisecond
	wrong = append(wrong, s.aim(req.Destination)...)
	if len(wrong) > 0 {
		return nil, errors.New(strings.Join(slices.Compact(wrong), "; "))
	}
	return s, nil
}

// decode reads exactly one JSON object.
func decode(body []byte, into any) error {
	if trimmed := bytes.TrimSpace(body); len(trimmed) == 0 || trimmed[0] != '{' {
		return errors.New("the request is not a JSON object")
	}
	if err := json.Unmarshal(body, into); err != nil {
		var te *json.UnmarshalTypeError
		if errors.As(err, &te) {
			return fmt.Errorf("%s should not be a %s", te.Field, te.Value)
		}
		return fmt.Errorf("the request is not valid JSON: %w", err)
	}
	return nil
}

// aim takes the destination and says what is wrong with it.
func (s *subscription) aim(raw json.RawMessage) (wrong []string) {
	if len(raw) == 0 || string(raw) == "null" {
		return []string{"destination is not provided"}
	}
	var d destination
	if err := decode(raw, &d); err != nil {
		return []string{"destination: " + err.Error()}
	}
	if d.Encoding != "" && d.Encoding != "JSON" {
		wrong = append(wrong, "destination encoding should be JSON")
	}
	switch d.Protocol {
	case "TCP":
		if d.Port == nil {
			return append(wrong, "port is not provided")
		}
		s.port = *d.Port
	case "HTTP":
		s.method = http.MethodPost
		if d.Method == http.MethodPut {
			s.method = d.Method
		} else if d.Method != "" && d.Method != http.MethodPost {
			wrong = append(wrong, "destination method should be POST or PUT")
		}
		if d.URI == "" {
			return append(wrong, "URI is not provided")
		}
		u, err := url.Parse(d.URI)
		switch {
		case err != nil || u.Opaque != "":
			return append(wrong, "URI is not valid")
		case u.Scheme != "http":
			wrong = append(wrong, "URI scheme should be http")
		case u.Hostname() != "sandbox.localdomain" && u.Hostname() != "sandbox":
			wrong = append(wrong, "URI host should be sandbox.localdomain")
		}
		if u.Port() == "" {
			return append(wrong, "URI port is not provided")
		}
		if s.port, err = strconv.Atoi(u.Port()); err != nil {
			return append(wrong, "URI port is not valid")
		}
		s.path = u.RequestURI()
	case "":
		return append(wrong, "destination protocol is not provided")
	default:
		return append(wrong, "destination protocol should be HTTP or TCP")
	}
	if s.port < 1 || s.port > 65535 {
		wrong = append(wrong, "port should be between 1 and 65535")
	}
	if s.port == reservedPort {
		wrong = append(wrong, "port 9001 is reserved")
	}
	return wrong
}
