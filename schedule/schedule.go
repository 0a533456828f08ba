package schedule

import (
	"encoding/json"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // a machine may have no time zone database
	"unicode/utf8"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/delivery"
)

// DefaultGroup is the group that is always there.
const DefaultGroup = "default"

// Schedule is a schedule of an account. Its JSON is what is on disk.
type Schedule struct {
	Account     hearth.Account `json:"account"`
	Group       string         `json:"group"`
	Name        string         `json:"name"`
	Region      string         `json:"region"`
	Description string         `json:"description,omitempty"`
	Expression  string         `json:"expression"`
	Timezone    string         `json:"timezone,omitempty"` // "" is UTC
	Start       time.Time      `json:"start,omitzero"`     // not fired before; zero is at once
	End         time.Time      `json:"end,omitzero"`       // nor after; zero is never
	// Flexible is within how long after a time it is fired, at random.
	Flexible time.Duration `json:"flexible,omitempty"`
	Disabled bool          `json:"disabled,omitempty"`
	// Delete has it deleted when it was fired for the last time.
	Delete bool   `json:"delete,omitempty"`
	KMSKey string `json:"kmsKey,omitempty"`
	Target Target `json:"target"`
	Token  string `json:"token,omitempty"` // of the request that made it

	Created  time.Time `json:"created"`
	Modified time.Time `json:"modified"`
	Next     time.Time `json:"next,omitzero"` // zero: it is not due any more
	Last     time.Time `json:"last,omitzero"` // when it was due last
	Fired    uint64    `json:"fired,omitempty"`
}

// Target is what a schedule is for.
type Target struct {
	ARN     string          `json:"arn"`
	Role    string          `json:"role"`
	Input   string          `json:"input,omitempty"`
	GroupID string          `json:"groupId,omitempty"` // in a FIFO queue
	Bus     *BusEvent       `json:"bus,omitempty"`     // if the target is an event bus
	Retry   delivery.Policy `json:"retry"`
}

// BusEvent is how the event that a bus gets is called.
type BusEvent struct {
	Source     string `json:"source"`
	DetailType string `json:"detailType"`
}

// ARN names the schedule.
func (s *Schedule) ARN() string {
	return "arn:aws:scheduler:" + s.Region + ":" + string(s.Account) + ":schedule/" + s.Group + "/" + s.Name
}

// Zone is the time zone of its expression.
func (s *Schedule) Zone() (*time.Location, error) {
	if s.Timezone == "" {
		return time.UTC, nil
	}
	if s.Timezone == "Local" { // Go's name for this machine's, which nobody means
		return nil, invalid("Invalid Schedule Expression Timezone %s.", s.Timezone)
	}
	z, err := time.LoadLocation(s.Timezone)
	if err != nil {
		return nil, invalid("Invalid Schedule Expression Timezone %s: it is no name of the IANA time zone database.", s.Timezone)
	}
	return z, nil
}

func (s *Schedule) parse() (*Expression, error) {
	z, err := s.Zone()
	if err != nil {
		return nil, err
	}
	e, err := Parse(s.Expression, z)
	if err != nil {
		return nil, invalid("Invalid Schedule Expression %s", err)
	}
	return e, nil
}

// base is what a rate counts from: its start, if it has one.
func (s *Schedule) base(e *Expression) time.Time {
	if !s.Start.IsZero() {
		return s.Start
	}
	return s.Created.Add(e.every)
}

// After is the first time after now at which it is due; zero if there is none.
// Errors: Validation for an expression or zone that is none.
func (s *Schedule) After(now time.Time) (time.Time, error) {
	e, err := s.parse()
	if err != nil || s.Disabled {
		return time.Time{}, err
	}
	after := now
	if s.Start.After(now) {
		after = s.Start.Add(-1)
	}
	t, ok := e.Next(after, s.base(e))
	if !ok || !s.End.IsZero() && t.After(s.End) {
		return time.Time{}, nil
	}
	return t.UTC(), nil
}

func invalid(format string, args ...any) *hearth.Error {
	return hearth.Errorf(hearth.Validation, format, args...)
}

var (
	nameForm   = regexp.MustCompile(`^[0-9a-zA-Z-_.]{1,64}$`)
	roleForm   = regexp.MustCompile(`^arn:aws(-[a-z]+)?:iam::\d{12}:role/[\w+=,.@/-]+$`)
	queueForm  = regexp.MustCompile(`^arn:aws:sqs:[a-z0-9-]+:(\d{12}):[a-zA-Z0-9-_]+(\.fifo)?$`)
	lambdaForm = regexp.MustCompile(`^arn:aws:lambda:[a-z0-9-]+:(\d{12}):function:[a-zA-Z0-9-_]{1,64}(:[a-zA-Z0-9$_-]{1,128})?$`)
	busForm    = regexp.MustCompile(`^arn:aws:events:[a-z0-9-]+:(\d{12}):event-bus/[/.\-_A-Za-z0-9]{1,256}$`)
)

// CheckName tells whether a schedule or a group may be called so.
func CheckName(what, name string) error {
	if !nameForm.MatchString(name) {
		return invalid("1 validation error detected: Value '%.80s' at '%s' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[0-9a-zA-Z-_.]+$, and have length between 1 and 64", name, what)
	}
	return nil
}

// Bounds of the service.
const (
	maxInput       = 256 << 10
	maxDescription = 512
	maxFlexible    = 24 * time.Hour
)

// check tells whether s is in order. now is when it is made or changed.
func (s *Schedule) check(now time.Time) error {
	if err := CheckName("name", s.Name); err != nil {
		return err
	}
	if err := CheckName("groupName", s.Group); err != nil {
		return err
	}
	e, err := s.parse()
	if err != nil {
		return err
	}
	t := &s.Target
	arns := lambdaForm.FindStringSubmatch(t.ARN)
	sort := "lambda"
	if arns == nil {
		arns, sort = queueForm.FindStringSubmatch(t.ARN), "sqs"
	}
	if arns == nil {
		arns, sort = busForm.FindStringSubmatch(t.ARN), "events"
	}
	switch {
	case utf8.RuneCountInString(s.Description) > maxDescription:
		return invalid("The description must have at most %d characters.", maxDescription)
	case s.Flexible < 0 || s.Flexible > maxFlexible:
		return invalid("MaximumWindowInMinutes must be between 1 and 1440.")
	case !s.Start.IsZero() && !s.End.IsZero() && !s.End.After(s.Start):
		return invalid("The StartDate you specify must come before the EndDate.")
	case !s.End.IsZero() && !s.End.After(now):
		return invalid("The EndDate you specify must come after the current time.")
	case e.Once() && !s.Disabled && !e.once.After(now) && s.Next.IsZero() && s.Last.IsZero():
		return invalid("The time of %s is past.", s.Expression)
	case arns == nil && strings.HasPrefix(t.ARN, "arn:aws:scheduler:::"):
		return invalid("Universal targets are not built here: give the ARN of a Lambda function, an SQS queue or an event bus in place of %s.", t.ARN)
	case arns == nil:
		return invalid("Provided Arn is not in correct format, or not of a Lambda function, an SQS queue or an event bus: %.200s", t.ARN)
	case arns[1] != string(s.Account):
		return invalid("Targets of other accounts are not built here: %s", t.ARN)
	case !roleForm.MatchString(t.Role):
		return invalid("Provided role is not in correct format: %.200s", t.Role)
	case len(t.Input) > maxInput:
		return invalid("The target's input has %d bytes; the limit is %d.", len(t.Input), maxInput)
	case sort == "lambda" && t.Input != "" && !json.Valid([]byte(t.Input)):
		return invalid("The input for a Lambda function must be JSON.")
	case (sort == "events") != (t.Bus != nil):
		return invalid("EventBridgeParameters are for event buses, which need them.")
	case sort == "events" && (t.Bus.Source == "" || t.Bus.DetailType == "" || strings.HasPrefix(t.Bus.Source, "aws.")):
		return invalid("EventBridgeParameters need a DetailType, and a Source that does not begin with aws.")
	case sort == "events" && t.Input != "" && !isObject(t.Input):
		return invalid("The input for an event bus must be a JSON object: it becomes the event's detail.")
	case sort != "sqs" && t.GroupID != "":
		return invalid("SqsParameters are for queues.")
	case sort == "sqs" && (t.GroupID != "") != strings.HasSuffix(t.ARN, ".fifo"):
		return invalid("A FIFO queue needs a MessageGroupId, and only one does.")
	case t.Retry.MaxAge < time.Minute || t.Retry.MaxAge > 24*time.Hour:
		return invalid("MaximumEventAgeInSeconds must be between 60 and 86400.")
	case t.Retry.MaxRetries < 0 || t.Retry.MaxRetries > 185:
		return invalid("MaximumRetryAttempts must be between 0 and 185.")
	case t.Retry.DeadLetter != "" && !queueForm.MatchString(t.Retry.DeadLetter):
		return invalid("The dead-letter queue must be the ARN of an SQS queue: %.200s", t.Retry.DeadLetter)
	}
	return nil
}

func isObject(text string) bool {
	return json.Valid([]byte(text)) && strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{")
}

// Group is a group of schedules. Its JSON is what is on disk.
type Group struct {
	Account  hearth.Account    `json:"account"`
	Name     string            `json:"name"`
	Region   string            `json:"region"`
	Tags     map[string]string `json:"tags,omitempty"`
	Token    string            `json:"token,omitempty"`
	Created  time.Time         `json:"created,omitzero"` // zero of the default one
	Modified time.Time         `json:"modified,omitzero"`
}

// ARN names the group.
func (g *Group) ARN() string {
	return "arn:aws:scheduler:" + g.Region + ":" + string(g.Account) + ":schedule-group/" + g.Name
}
