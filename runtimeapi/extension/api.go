package extension

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth/runtimeapi"
)

// Prefix is of the paths that Serve serves.
const Prefix = "/2020-01-01/extension/"

// methods are the one method that each endpoint has.
var methods = map[string]string{
	"register": http.MethodPost, "event/next": http.MethodGet, "init/error": http.MethodPost, "exit/error": http.MethodPost,
}

// Serve answers a request of an extension. It returns when there is an event,
// or the environment has ended.
func (s *Set) Serve(r *runtimeapi.Request) runtimeapi.Reply {
	path := strings.TrimPrefix(r.Path, Prefix)
	method, known := methods[path]
	if !known {
		return runtimeapi.Reply{Status: http.StatusNotFound, ContentType: "text/plain; charset=utf-8", Body: []byte("404 page not found\n")}
	}
	if r.Method != method {
		return runtimeapi.Reply{Status: http.StatusMethodNotAllowed, Header: [][2]string{{"Allow", method}}}
	}
	if path == "register" {
		return s.register(r)
	}
	id, refused := identifier(r)
	if refused != nil {
		return *refused
	}
	switch path {
	case "event/next":
		return s.next(id, r.Gone)
	case "init/error":
		return s.report(id, StepInitError, r.Header("lambda-extension-function-error-type"))
	default:
		return s.report(id, StepExitError, r.Header("lambda-extension-function-error-type"))
	}
}

// refusal is the answer to a request that cannot be.
func refusal(errorType, format string, args ...any) runtimeapi.Reply {
	body, err := json.Marshal(struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}{fmt.Sprintf(format, args...), errorType})
	if err != nil {
		panic(err) // two strings always have a JSON form
	}
	return runtimeapi.Reply{Status: http.StatusForbidden, ContentType: "application/json", Body: append(body, '\n')}
}

// invalidState refuses a step that an extension's state does not allow.
func invalidState(err error, extension string) runtimeapi.Reply {
	var te *TransitionError
	if errors.As(err, &te) {
		te.Extension = extension
	}
	return refusal("Extension.InvalidExtensionState", "%v", err)
}

// identifier takes an extension's identifier from a request's head.
func identifier(r *runtimeapi.Request) (uuid.UUID, *runtimeapi.Reply) {
	text := r.Header("lambda-extension-identifier")
	if text == "" {
		refused := refusal("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
		return uuid.UUID{}, &refused
	}
	id, err := uuid.Parse(text)
	if err != nil {
		refused := refusal("Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
		return uuid.UUID{}, &refused
	}
	return id, nil
}

// Identify returns the name of the extension that made a request, or the
// answer to one that cannot be known.
func (s *Set) Identify(r *runtimeapi.Request) (name string, refused *runtimeapi.Reply) {
	id, refused := identifier(r)
	if refused != nil {
		return "", refused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byID(id); e != nil {
		return e.name, nil
	}
	unknown := refusal(typeUnknown, "Unknown extension %s", id)
	return "", &unknown
}

const typeUnknown = "Extension.UnknownExtensionIdentifier"

// byID returns the extension of an identifier. mu is held.
func (s *Set) byID(id uuid.UUID) *extension {
	if i := slices.IndexFunc(s.list, func(e *extension) bool { return e.id == id }); i >= 0 {
		return s.list[i]
	}
	return nil
}

// parseRegister reads the body of a registration.
func parseRegister(body []byte) (events []string, err error) {
	var req struct {
		Events            []string `json:"events"`
		ConfigurationKeys []string `json:"configurationKeys"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, err
	}
	if len(req.ConfigurationKeys) != 0 {
		return nil, errors.New("configurationKeys are deprecated; use environment variables instead")
	}
	for _, event := range req.Events {
		if !slices.Contains(events, event) {
			events = append(events, event)
		}
	}
	return events, nil
}

// register serves a registration. A name that is not of an external extension
// is of an internal one.
func (s *Set) register(r *runtimeapi.Request) runtimeapi.Reply {
	name := r.Header("lambda-extension-name")
	if name == "" {
		return refusal("Extension.InvalidExtensionName", "Empty extension name")
	}
	events, err := parseRegister(r.Body)
	if err != nil {
		return refusal("InvalidRequestFormat", "%v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(name)
	external := e != nil && e.external
	for _, event := range events {
		switch {
		case event == Shutdown && !external:
			return refusal("Extension.InvalidEventType", "%s: ShutdownEventNotSupportedForInternalExtension", event)
		case event != Invoke && event != Shutdown:
			return refusal("Extension.InvalidEventType", "%s: ErrorInvalidEventType", event)
		}
	}
	if !external {
		switch {
		case s.closed:
			return refusal("Extension.RegistrationClosed", "Extension registration closed already")
		case e != nil:
			return refusal("Extension.InvalidExtensionState", "Extension with this name already registered")
		case len(s.list) >= Limit:
			return refusal("Extension.TooManyExtensions", "Extension limit (%d) reached", Limit)
		}
		e = &extension{name: name, id: uuid.New(), asked: make(chan []byte, 1)}
		s.list = append(s.list, e)
	}
	if err := e.step(StepRegister); err != nil {
		return invalidState(err, name)
	}
	e.events = events
	s.changed()

	answer := struct {
		Account string `json:"accountId,omitempty"`
		Name    string `json:"functionName"`
		Version string `json:"functionVersion"`
		Handler string `json:"handler"`
	}{Name: s.fn.Name, Version: s.fn.Version, Handler: s.fn.Handler}
	for feature := range strings.SplitSeq(r.Header("lambda-extension-accept-feature"), ",") {
		if strings.TrimSpace(feature) == "accountId" {
			answer.Account = s.fn.Account
		}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		panic(err) // strings always have a JSON form
	}
	return runtimeapi.Reply{
		Status: http.StatusOK, ContentType: "application/json", Body: append(body, '\n'),
		Header: [][2]string{{"Lambda-Extension-Identifier", e.id.String()}},
	}
}

// next serves the long poll for an event.
func (s *Set) next(id uuid.UUID, gone <-chan struct{}) runtimeapi.Reply {
	s.mu.Lock()
	e := s.byID(id)
	if e == nil {
		s.mu.Unlock()
		return refusal(typeUnknown, "Unknown extension %s", id)
	}
	if err := e.step(StepNext); err != nil {
		s.mu.Unlock()
		return invalidState(err, id.String())
	}
	if event := e.pending; event != nil {
		e.pending = nil
		s.deliver(e, event)
	}
	s.changed()
	s.mu.Unlock()
	select {
	case event := <-e.asked:
		return eventReply(event)
	case <-gone:
	}
	select {
	case event := <-e.asked:
		return eventReply(event)
	default: // the connection is being closed
		return runtimeapi.Reply{Status: http.StatusServiceUnavailable}
	}
}

func eventReply(event []byte) runtimeapi.Reply {
	return runtimeapi.Reply{
		Status: http.StatusOK, ContentType: "application/json", Body: event,
		Header: [][2]string{{"Lambda-Extension-Event-Identifier", uuid.NewString()}},
	}
}

// report serves the report of an error, which fails the environment.
func (s *Set) report(id uuid.UUID, step Step, own string) runtimeapi.Reply {
	if own == "" {
		return refusal("Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byID(id)
	if e == nil {
		return refusal(typeUnknown, "Unknown Lambda-Extension-Identifier")
	}
	if err := e.step(step); err != nil {
		return invalidState(err, id.String())
	}
	if e.fault == "" {
		e.fault = own
	}
	if s.fault == "" {
		s.fault = map[Step]string{StepInitError: TypeInitError, StepExitError: TypeExitError}[step]
		close(s.reported)
	}
	return runtimeapi.Reply{Status: http.StatusAccepted, ContentType: "application/json", Body: []byte("{\"status\":\"OK\"}\n")}
}

// invokeEvent renders the event of an invocation.
func invokeEvent(inv Invocation) []byte {
	type tracing struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	event := struct {
		Type     string   `json:"eventType"`
		Deadline int64    `json:"deadlineMs"`
		ID       string   `json:"requestId"`
		ARN      string   `json:"invokedFunctionArn"`
		Tracing  *tracing `json:"tracing,omitempty"`
	}{Type: Invoke, Deadline: inv.Deadline.UnixMilli(), ID: inv.RequestID, ARN: inv.ARN}
	if inv.TraceID != "" {
		event.Tracing = &tracing{"X-Amzn-Trace-Id", inv.TraceID}
	}
	return render(event)
}

// shutdownEvent renders the event of the environment's end.
func shutdownEvent(reason string, deadline time.Time) []byte {
	return render(struct {
		Type     string `json:"eventType"`
		Deadline int64  `json:"deadlineMs"`
		Reason   string `json:"shutdownReason"`
	}{Shutdown, deadline.UnixMilli(), reason})
}

// render is v's JSON with what is in it as it is: ARNs and trace ids hold no
// HTML, and need no protection from it.
func render(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // structs of strings and numbers always have a JSON form
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
