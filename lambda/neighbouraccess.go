package lambda

import (
	"encoding/json"
	"net/url"
	"strings"

	hearth "github.com/hearth-faas/hearth"
)

// What a request to a neighbour asks for, as policies name it: EventBridge and
// its Scheduler are judged here, SQS, whose queues have policies, where the
// queue is found.

// neighbourAsk is an action and the ARNs that it is about, and the roles that
// it hands on.
type neighbourAsk struct {
	action    string
	resources []string
	roles     []string
}

// mayAsk tells whether the caller may have a neighbour do something.
func (h *Handler) mayAsk(c *call, body []byte) error {
	if h.free(c) {
		return nil
	}
	var ask neighbourAsk
	service := ""
	switch c.claim.Service {
	case "events":
		service, ask = "events.amazonaws.com", h.eventsAsk(c, body)
	case "scheduler":
		service, ask = "scheduler.amazonaws.com", h.schedulerAsk(c, body)
	default:
		return nil
	}
	for _, resource := range ask.resources {
		if err := h.Judge.Check(c.ctx, h.asked(c, ask.action, resource, accountOf(resource))); err != nil {
			return err
		}
	}
	for _, role := range ask.roles {
		if err := h.mayPass(c, role, service, ask.resources[0]); err != nil {
			return err
		}
	}
	return nil
}

// eventsAsk reads a request to EventBridge, as package bus/wire does.
func (h *Handler) eventsAsk(c *call, body []byte) neighbourAsk {
	_, name, _ := strings.Cut(c.http.Header.Get("X-Amz-Target"), ".")
	var in struct {
		Name, Rule, EventBusName, RoleArn, ResourceARN, NamePrefix string
		Entries                                                    []struct{ EventBusName string }
		Targets                                                    []struct{ RoleArn string }
	}
	// What is no JSON is refused by the service, in its words.
	_ = json.Unmarshal(body, &in)
	base := "arn:aws:events:" + h.region + ":" + string(c.account()) + ":"
	bus := func(name string) string {
		switch {
		case strings.HasPrefix(name, "arn:"):
			return name
		case name == "":
			name = "default"
		}
		return base + "event-bus/" + name
	}
	rule := func(name string) string {
		on := strings.TrimPrefix(bus(in.EventBusName), base+"event-bus/")
		if on == "default" {
			return base + "rule/" + name
		}
		return base + "rule/" + on + "/" + name
	}
	ask := neighbourAsk{action: "events:" + name}
	switch {
	case name == "PutEvents":
		for _, e := range in.Entries {
			ask.resources = append(ask.resources, bus(e.EventBusName))
		}
	case in.ResourceARN != "":
		ask.resources = []string{in.ResourceARN}
	case in.Rule != "":
		ask.resources = []string{rule(in.Rule)}
	case strings.HasSuffix(name, "EventBus"):
		ask.resources = []string{bus(in.Name)}
	case strings.HasSuffix(name, "Rule"):
		ask.resources = []string{rule(in.Name)}
	case name == "ListRules":
		ask.resources = []string{rule(in.NamePrefix + "*")}
	}
	if len(ask.resources) == 0 {
		ask.resources = []string{"*"}
	}
	if in.RoleArn != "" {
		ask.roles = append(ask.roles, in.RoleArn)
	}
	for _, t := range in.Targets {
		if t.RoleArn != "" {
			ask.roles = append(ask.roles, t.RoleArn)
		}
	}
	return ask
}

// schedulerAsk reads a request to EventBridge Scheduler, as package
// schedule/wire does.
func (h *Handler) schedulerAsk(c *call, body []byte) neighbourAsk {
	sort, rest, _ := strings.Cut(strings.TrimPrefix(c.http.URL.EscapedPath(), "/"), "/")
	name, err := url.PathUnescape(rest)
	if err != nil {
		name = rest // which the service refuses
	}
	var in struct {
		GroupName string
		Target    struct{ RoleArn string }
	}
	_ = json.Unmarshal(body, &in)
	base := "arn:aws:scheduler:" + h.region + ":" + string(c.account()) + ":"
	group := in.GroupName
	if group == "" {
		group = c.http.URL.Query().Get("groupName")
	}
	if group == "" {
		group = "default"
	}
	verb := map[string]string{"POST": "Create", "GET": "Get", "PUT": "Update", "DELETE": "Delete"}[c.http.Method]
	ask := neighbourAsk{resources: []string{"*"}}
	switch {
	case sort == "schedules" && name == "":
		ask.action = "scheduler:ListSchedules"
	case sort == "schedules":
		ask.action, ask.resources = "scheduler:"+verb+"Schedule", []string{base + "schedule/" + group + "/" + name}
	case sort == "schedule-groups" && name == "":
		ask.action = "scheduler:ListScheduleGroups"
	case sort == "schedule-groups":
		ask.action, ask.resources = "scheduler:"+verb+"ScheduleGroup", []string{base + "schedule-group/" + name}
	default:
		ask.action = "scheduler:" + map[string]string{"POST": "TagResource", "GET": "ListTagsForResource", "DELETE": "UntagResource"}[c.http.Method]
		if strings.HasPrefix(name, "arn:") {
			ask.resources = []string{name}
		}
	}
	if in.Target.RoleArn != "" {
		ask.roles = []string{in.Target.RoleArn}
	}
	return ask
}

// mayLog tells whether the caller may do an operation of CloudWatch Logs.
func (h *Handler) mayLog(c *call, name string, body []byte) error {
	if h.free(c) {
		return nil
	}
	var in struct {
		LogGroupName, LogGroupIdentifier, LogStreamName, ResourceArn string
	}
	_ = json.Unmarshal(body, &in) // what is none is refused by the operation
	group := in.LogGroupName
	if group == "" {
		group = in.LogGroupIdentifier
	}
	resource := "*"
	switch {
	case in.ResourceArn != "":
		resource = in.ResourceArn
	case group != "" && !strings.HasPrefix(group, "arn:"):
		group = "arn:aws:logs:" + h.region + ":" + string(c.account()) + ":log-group:" + group
		fallthrough
	case group != "":
		resource = strings.TrimSuffix(group, ":*") + ":*"
		if in.LogStreamName != "" {
			resource = strings.TrimSuffix(resource, "*") + "log-stream:" + in.LogStreamName
		}
	}
	return h.Judge.Check(c.ctx, h.asked(c, "logs:"+name, resource, hearth.Account("")))
}
