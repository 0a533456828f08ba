package sqs

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/policy"
)

// MaxMessage bounds a message, and a batch of them, in bytes.
const MaxMessage = 1 << 20

// settings are a queue's attributes as what they mean.
type settings struct {
	record *queueRecord // as it is on disk; not changed

	delay, visibility int64 // milliseconds
	retention         int64 // milliseconds
	wait              int   // seconds
	maxMessage        int   // bytes
	fifo              bool
	byContent         bool // deduplication
	perGroup          bool // its scope
	redrive           *redrivePolicy
	allow             *redriveAllowPolicy
	policy            *policy.Document
}

// redrivePolicy is when a message is given up, and to whom.
type redrivePolicy struct {
	target string // an ARN
	max    int
}

// redriveAllowPolicy is who may give up messages to a queue.
type redriveAllowPolicy struct {
	permission string // allowAll, denyAll or byQueue
	sources    []string
}

// attribute is one attribute of a queue that can be set.
type attribute struct {
	initial  string // "" is not told unless it is set
	fifoOnly bool
	read     func(s *settings, value string) error
}

var attributes = map[string]attribute{
	"DelaySeconds":                  {initial: "0", read: seconds(0, 900, func(s *settings, n int) { s.delay = int64(n) * 1000 })},
	"MaximumMessageSize":            {initial: strconv.Itoa(MaxMessage), read: seconds(1024, MaxMessage, func(s *settings, n int) { s.maxMessage = n })},
	"MessageRetentionPeriod":        {initial: "345600", read: seconds(60, 1209600, func(s *settings, n int) { s.retention = int64(n) * 1000 })},
	"ReceiveMessageWaitTimeSeconds": {initial: "0", read: seconds(0, 20, func(s *settings, n int) { s.wait = n })},
	"VisibilityTimeout":             {initial: "30", read: seconds(0, 43200, func(s *settings, n int) { s.visibility = int64(n) * 1000 })},
	"Policy":                        {read: readPolicy},
	"RedrivePolicy":                 {read: readRedrive},
	"RedriveAllowPolicy":            {read: readAllow},
	"FifoQueue":                     {read: truth(func(*settings, bool) {})},
	"ContentBasedDeduplication":     {initial: "false", fifoOnly: true, read: truth(func(s *settings, b bool) { s.byContent = b })},
	"DeduplicationScope":            {initial: "queue", fifoOnly: true, read: oneOf(func(s *settings, v string) { s.perGroup = v == "messageGroup" }, "queue", "messageGroup")},
	"FifoThroughputLimit":           {initial: "perQueue", fifoOnly: true, read: oneOf(func(*settings, string) {}, "perQueue", "perMessageGroupId")},
	"SqsManagedSseEnabled":          {initial: "false", read: truth(func(*settings, bool) {})},
	"KmsMasterKeyId":                {read: noKey},
	"KmsDataKeyReusePeriodSeconds":  {read: seconds(60, 86400, func(*settings, int) {})},
}

// parseSettings reads a queue's attributes. Errors: InvalidAttribute,
// InvalidValue, UnsupportedOperation.
func parseSettings(r *queueRecord) (*settings, error) {
	s := &settings{record: r, fifo: strings.HasSuffix(r.Name, ".fifo")}
	for name, a := range attributes {
		value, set := r.Attributes[name]
		switch {
		case set && a.fifoOnly && !s.fifo:
			return nil, hearth.Errorf(InvalidAttribute, "You can specify the %s only when FifoQueue is set to true.", name)
		case set && value != "":
		case a.initial == "":
			continue
		default:
			value = a.initial
		}
		if err := a.read(s, value); err != nil {
			if why, ok := err.(invalid); ok {
				err = hearth.Errorf(InvalidValue, "Invalid value for the parameter %s. Reason: %s", name, why)
			}
			return nil, err
		}
	}
	for name := range r.Attributes {
		if _, ok := attributes[name]; !ok {
			return nil, hearth.Errorf(InvalidAttribute, "Unknown Attribute %s.", name)
		}
	}
	if s.record.Attributes["FifoThroughputLimit"] == "perMessageGroupId" && !s.perGroup {
		return nil, hearth.Errorf(InvalidValue, "Invalid value for the parameter FifoThroughputLimit. Reason: perMessageGroupId needs the DeduplicationScope messageGroup.")
	}
	return s, nil
}

// invalid is what is wrong with an attribute's value.
type invalid string

func (i invalid) Error() string { return string(i) }

func seconds(least, most int, set func(*settings, int)) func(*settings, string) error {
	return func(s *settings, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return invalid(fmt.Sprintf("Must be between %d and %d.", least, most))
		}
		set(s, n)
		return nil
	}
}

func truth(set func(*settings, bool)) func(*settings, string) error {
	return func(s *settings, value string) error {
		switch strings.ToLower(value) {
		case "true":
			set(s, true)
		case "false":
			set(s, false)
		default:
			return invalid("Must be true or false.")
		}
		return nil
	}
}

func oneOf(set func(*settings, string), values ...string) func(*settings, string) error {
	return func(s *settings, value string) error {
		for _, v := range values {
			if v == value {
				set(s, v)
				return nil
			}
		}
		return invalid("Must be one of " + strings.Join(values, ", ") + ".")
	}
}

func readPolicy(s *settings, value string) error {
	d, err := policy.Parse([]byte(value))
	if err == nil {
		err = d.Check(policy.Resource)
	}
	if err != nil {
		return invalid(err.Error())
	}
	s.policy = d
	return nil
}

func readRedrive(s *settings, value string) error {
	var in struct {
		Target string          `json:"deadLetterTargetArn"`
		Max    json.RawMessage `json:"maxReceiveCount"` // a number, or text of one
	}
	if err := json.Unmarshal([]byte(value), &in); err != nil {
		return invalid("Redrive policy is not a valid JSON map.")
	}
	max, err := strconv.Atoi(strings.Trim(string(in.Max), `"`))
	account, name, ok := ParseARN(in.Target)
	switch {
	case in.Target == "":
		return invalid("Redrive policy does not contain mandatory attribute: deadLetterTargetArn.")
	case in.Max == nil:
		return invalid("Redrive policy does not contain mandatory attribute: maxReceiveCount.")
	case err != nil || max < 1 || max > 1000:
		return invalid("Invalid value for maxReceiveCount: must be between 1 and 1000.")
	case !ok || account != s.record.Account:
		return invalid("deadLetterTargetArn must be the ARN of a queue of the same account.")
	case strings.HasSuffix(name, ".fifo") != s.fifo:
		return invalid("Dead-letter queue must be same type of queue as the source.")
	}
	s.redrive = &redrivePolicy{in.Target, max}
	return nil
}

func readAllow(s *settings, value string) error {
	var in struct {
		Permission string   `json:"redrivePermission"`
		Sources    []string `json:"sourceQueueArns"`
	}
	if err := json.Unmarshal([]byte(value), &in); err != nil {
		return invalid("Redrive allow policy is not a valid JSON map.")
	}
	switch {
	case in.Permission != "allowAll" && in.Permission != "denyAll" && in.Permission != "byQueue":
		return invalid("redrivePermission must be allowAll, denyAll or byQueue.")
	case in.Permission == "byQueue" && (len(in.Sources) == 0 || len(in.Sources) > 10):
		return invalid("redrivePermission byQueue needs one to ten sourceQueueArns.")
	case in.Permission != "byQueue" && len(in.Sources) > 0:
		return invalid("sourceQueueArns can be given only with redrivePermission byQueue.")
	}
	s.allow = &redriveAllowPolicy{in.Permission, in.Sources}
	return nil
}

// noKey refuses encryption, which would only be said to be there.
func noKey(*settings, string) error {
	return hearth.Errorf(UnsupportedOperation, "Queues are not encrypted with keys here: the messages lie in the server's data folder as they are. Leave KmsMasterKeyId out, and keep the folder on an encrypted disk.")
}

var queueName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

func checkName(name string) error {
	base, fifo := strings.CutSuffix(name, ".fifo")
	if len(name) > 80 || !queueName.MatchString(base) {
		kind := "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
		if fifo || strings.Contains(name, ".") {
			kind = "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in length"
		}
		return hearth.Errorf(InvalidParameter, "%s", kind)
	}
	return nil
}
