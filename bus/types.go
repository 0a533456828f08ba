package bus

import (
	"cmp"
	"encoding/json"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/delivery"
	"github.com/hearth-faas/hearth/event/pattern"
	"github.com/hearth-faas/hearth/schedule"
)

// DefaultBus is the bus that every account has.
const DefaultBus = "default"

// Bus is an event bus. Its JSON is what is on disk.
type Bus struct {
	Account     hearth.Account    `json:"account"`
	Name        string            `json:"name"`
	Region      string            `json:"region"`
	Description string            `json:"description,omitempty"`
	DeadLetter  string            `json:"deadLetter,omitempty"` // of deliveries whose target has none
	KMSKey      string            `json:"kmsKey,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Created     time.Time         `json:"created,omitzero"`
	Modified    time.Time         `json:"modified,omitzero"`
}

// ARN names the bus.
func (b *Bus) ARN() string {
	return "arn:aws:events:" + b.Region + ":" + string(b.Account) + ":event-bus/" + b.Name
}

// Rule is a rule on a bus. Its JSON is what is on disk.
type Rule struct {
	Account     hearth.Account    `json:"account"`
	Bus         string            `json:"bus"`
	Name        string            `json:"name"`
	Region      string            `json:"region"`
	Pattern     string            `json:"pattern,omitempty"`
	Schedule    string            `json:"schedule,omitempty"`
	Description string            `json:"description,omitempty"`
	Role        string            `json:"role,omitempty"`
	State       string            `json:"state"` // ENABLED, DISABLED or ENABLED_WITH_…
	Tags        map[string]string `json:"tags,omitempty"`
	Targets     []Target          `json:"targets,omitempty"` // by id
	Created     time.Time         `json:"created"`
	Set         time.Time         `json:"set"`           // when its schedule was, from which a rate counts
	Next        time.Time         `json:"next,omitzero"` // of the schedule
}

// ARN names the rule.
func (r *Rule) ARN() string {
	name := r.Name
	if r.Bus != DefaultBus {
		name = r.Bus + "/" + name
	}
	return "arn:aws:events:" + r.Region + ":" + string(r.Account) + ":rule/" + name
}

// Enabled tells whether it is in force.
func (r *Rule) Enabled() bool { return r.State != Disabled }

// The states of a rule; the others begin with Enabled.
const (
	Enabled  = "ENABLED"
	Disabled = "DISABLED"
)

// Target is where a rule sends events.
type Target struct {
	ID          string           `json:"id"`
	ARN         string           `json:"arn"`
	Role        string           `json:"role,omitempty"`
	Input       string           `json:"input,omitempty"`
	InputPath   string           `json:"inputPath,omitempty"`
	Transformer *Transformer     `json:"transformer,omitempty"`
	GroupID     string           `json:"groupId,omitempty"` // in a FIFO queue
	Retry       *delivery.Policy `json:"retry,omitempty"`   // nil is the service's default
	DeadLetter  string           `json:"deadLetter,omitempty"`
}

// Transformer makes a target's input of parts of the event.
type Transformer struct {
	Paths    map[string]string `json:"paths,omitempty"`
	Template string            `json:"template"`
}

// The service's limits.
const (
	MaxBuses   = 100
	MaxRules   = 300 // on a bus
	MaxTargets = 5   // of a rule
)

var (
	busName   = regexp.MustCompile(`^[/.\-_A-Za-z0-9]{1,256}$`)
	ruleName  = regexp.MustCompile(`^[.\-_A-Za-z0-9]{1,64}$`)
	targetARN = regexp.MustCompile(`^arn:aws:(lambda:[a-z0-9-]+:\d{12}:function:[a-zA-Z0-9-_]{1,64}(:[a-zA-Z0-9$_-]{1,128})?|sqs:[a-z0-9-]+:\d{12}:[a-zA-Z0-9-_]{1,80}(\.fifo)?|events:[a-z0-9-]+:\d{12}:event-bus/[/.\-_A-Za-z0-9]{1,256})$`)
	queueARN  = regexp.MustCompile(`^arn:aws:sqs:[a-z0-9-]+:\d{12}:[a-zA-Z0-9-_]{1,80}(\.fifo)?$`)
)

func invalid(format string, args ...any) *hearth.Error {
	return hearth.Errorf(hearth.Validation, format, args...)
}

func checkRuleName(name string) error {
	if !ruleName.MatchString(name) {
		return invalid(`1 validation error detected: Value '%.80s' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: [\.\-_A-Za-z0-9]+, and have length between 1 and 64`, name)
	}
	return nil
}

// check tells whether a rule is in order, and returns its schedule.
func (r *Rule) check() (*schedule.Expression, error) {
	if err := checkRuleName(r.Name); err != nil {
		return nil, err
	}
	switch {
	case r.Pattern == "" && r.Schedule == "":
		return nil, invalid("Parameter(s) EventPattern or ScheduleExpression must be specified.")
	case r.State != Enabled && r.State != Disabled && r.State != "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS":
		return nil, invalid("Value '%.60s' at 'state' failed to satisfy constraint: Member must satisfy enum value set: [ENABLED, DISABLED, ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS]", r.State)
	case utf8.RuneCountInString(r.Description) > 512:
		return nil, invalid("The description must have at most 512 characters.")
	}
	if r.Pattern != "" {
		if _, err := compile(r.Pattern); err != nil {
			return nil, err
		}
	}
	if r.Schedule == "" {
		return nil, nil
	}
	if r.Bus != DefaultBus {
		return nil, invalid("ScheduleExpression is supported only on the default event bus.")
	}
	e, err := schedule.Parse(r.Schedule, nil)
	// Of a rule, unlike of a schedule, one is one minute and two are minutes.
	if err == nil && (e.Once() || e.Rate() > 0 && strings.HasPrefix(r.Schedule, "rate(1 ") == strings.HasSuffix(r.Schedule, "s)")) {
		err = invalid("a rule's is rate(1 minute), rate(5 minutes) or cron(0 10 * * ? *)")
	}
	if err != nil {
		return nil, invalid("Parameter ScheduleExpression is not valid. %s", err)
	}
	return e, nil
}

func compile(text string) (*pattern.Pattern, error) {
	p, err := pattern.Compile(text)
	if err != nil {
		return nil, hearth.Errorf(hearth.InvalidPattern, "Event pattern is not valid. Reason: %s", err)
	}
	return p, nil
}

// check tells whether a target of the account's rules is in order.
func (t *Target) check(account hearth.Account) error {
	if !ruleName.MatchString(t.ID) {
		return invalid(`Value '%.80s' at 'targets.id' failed to satisfy constraint: Member must satisfy regular expression pattern: [\.\-_A-Za-z0-9]+, and have length between 1 and 64`, t.ID)
	}
	given := 0
	for _, is := range []bool{t.Input != "", t.InputPath != "", t.Transformer != nil} {
		if is {
			given++
		}
	}
	fifo := strings.HasSuffix(t.ARN, ".fifo")
	switch {
	case !targetARN.MatchString(t.ARN):
		return invalid("Provided Arn is not in correct format, or not of a Lambda function, an SQS queue or an event bus: %.200s", t.ARN)
	case strings.Split(t.ARN, ":")[4] != string(account):
		return invalid("Targets of other accounts are not built here: %s", t.ARN)
	case given > 1:
		return invalid("Only one of Input, InputPath, or InputTransformer must be provided for target %s.", t.ID)
	case strings.HasPrefix(t.ARN, "arn:aws:events:") && given > 0:
		return invalid("Input, InputPath and InputTransformer are not for event buses, which get the event as it is: target %s.", t.ID)
	case t.Input != "" && !json.Valid([]byte(t.Input)):
		return invalid("JSON syntax error in input for target %s : %.80s", t.ID, t.Input)
	case fifo != (t.GroupID != ""):
		return invalid("Parameter SqsParameters.MessageGroupId is for FIFO queues, which need it: target %s.", t.ID)
	case t.DeadLetter != "" && !queueARN.MatchString(t.DeadLetter):
		return invalid("Parameter DeadLetterConfig.Arn must be the ARN of an SQS queue: target %s.", t.ID)
	case t.Retry != nil && (t.Retry.MaxAge < time.Minute || t.Retry.MaxAge > 24*time.Hour || t.Retry.MaxRetries < 0 || t.Retry.MaxRetries > 185):
		return invalid("Parameter RetryPolicy of target %s: MaximumEventAgeInSeconds is between 60 and 86400, MaximumRetryAttempts between 0 and 185.", t.ID)
	}
	if t.InputPath != "" {
		if _, err := parsePath(t.InputPath); err != nil {
			return invalid("Parameter InputPath of target %s is not valid: %s", t.ID, err)
		}
	}
	if t.Transformer != nil {
		if err := t.Transformer.check(); err != nil {
			return invalid("Invalid InputTemplate for target %s : %s", t.ID, err)
		}
	}
	return nil
}

// policy is how long a target is tried.
func (t *Target) policy(b *Bus) delivery.Policy {
	p := delivery.DefaultPolicy
	if t.Retry != nil {
		p = *t.Retry
	}
	p.DeadLetter = cmp.Or(t.DeadLetter, b.DeadLetter)
	return p
}
