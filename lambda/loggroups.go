package lambda

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/worker/logs"
)

// Log groups. A function makes its own by writing; a deployer makes it first,
// to give it tags and a retention.

type describeLogGroupsInput struct {
	Prefix  string `json:"logGroupNamePrefix"`
	Pattern string `json:"logGroupNamePattern"`
	Class   string `json:"logGroupClass"`
	Token   string `json:"nextToken"`
	Limit   *int   `json:"limit"`
}

type logGroupJSON struct {
	Name          string `json:"logGroupName"`
	Created       int64  `json:"creationTime"`
	RetentionDays int    `json:"retentionInDays,omitempty"`
	MetricFilters int    `json:"metricFilterCount"`
	ARN           string `json:"arn"`
	StoredBytes   int64  `json:"storedBytes"`
	Class         string `json:"logGroupClass"`
	GroupARN      string `json:"logGroupArn"`
	Protected     bool   `json:"deletionProtectionEnabled"`
}

type describeLogGroupsOutput struct {
	Groups []logGroupJSON `json:"logGroups"`
	Next   string         `json:"nextToken,omitempty"`
}

func (h *Handler) describeLogGroups(c *call, in *describeLogGroupsInput) (out describeLogGroupsOutput, err error) {
	out.Groups = []logGroupJSON{}
	limit, err := limited(in.Limit, 50)
	if err != nil || h.Logs == nil {
		return out, err
	}
	if in.Prefix != "" && in.Pattern != "" {
		return out, hearth.Errorf(hearth.InvalidParameter, "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
	}
	for out.Next = in.Token; ; {
		groups, next, err := h.Logs.Groups(c.ctx, c.account(), in.Prefix, out.Next, limit)
		if err != nil {
			return out, err
		}
		for _, g := range groups {
			if !strings.Contains(g.Name, in.Pattern) || in.Class != "" && in.Class != g.Class {
				continue
			}
			arn := h.groupARN(c, g.Name)
			out.Groups = append(out.Groups, logGroupJSON{
				Name: g.Name, Created: millis(g.Created), RetentionDays: g.RetentionDays, ARN: arn + ":*",
				StoredBytes: g.StoredBytes, Class: g.Class, GroupARN: arn, Protected: g.Protected,
			})
		}
		if out.Next = next; next == "" || len(out.Groups) > 0 { // a page may be short
			return out, nil
		}
	}
}

func (h *Handler) groupARN(c *call, name string) string {
	return "arn:aws:logs:" + h.region + ":" + string(c.account()) + ":log-group:" + name
}

// groupName is the group that a request names: by its name, or by an
// identifier, which may also be its ARN.
func (h *Handler) groupName(c *call, name, identifier string) (string, error) {
	if name == "" {
		name = strings.TrimSuffix(strings.TrimPrefix(identifier, h.groupARN(c, "")), ":*")
	}
	switch {
	case name == "":
		return "", missing("logGroupName")
	case h.Logs == nil:
		return "", hearth.Errorf(hearth.NotFound, "The specified log group does not exist.")
	}
	return name, nil
}

func missing(member string) error {
	return hearth.Errorf(hearth.InvalidParameter, "1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", member)
}

var groupNamePattern = regexp.MustCompile(`^[\.\-_/#A-Za-z0-9]+$`)

// newGroupName checks the name of a group that is to be made.
func newGroupName(name string) error {
	violated := ""
	switch {
	case name == "":
		return missing("logGroupName")
	case len(name) > 512:
		violated = "Member must have length less than or equal to 512"
	case !groupNamePattern.MatchString(name):
		violated = `Member must satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+`
	case strings.HasPrefix(name, "aws/"):
		return hearth.Errorf(hearth.InvalidParameter, "Log groups starting with AWS/ are reserved for AWS.")
	default:
		return nil
	}
	return hearth.Errorf(hearth.InvalidParameter, "1 validation error detected: Value '%s' at 'logGroupName' failed to satisfy constraint: %s", name, violated)
}

// logTags checks tags that are to be set.
func logTags(tags map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		switch {
		case key == "" || utf8.RuneCountInString(key) > 128:
			return hearth.Errorf(hearth.InvalidParameter, "1 validation error detected: Value '%s' at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1]", key)
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return hearth.Errorf(hearth.InvalidParameter, "aws: prefixed tag key names are not allowed for external use.")
		case utf8.RuneCountInString(tags[key]) > 256:
			return hearth.Errorf(hearth.InvalidParameter, "1 validation error detected: Value of the tag '%s' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: [Member must have length less than or equal to 256, Member must have length greater than or equal to 0]", key)
		}
	}
	return nil
}

var logClasses = []string{"STANDARD", "INFREQUENT_ACCESS", "DELIVERY"}

type createLogGroupInput struct {
	Group     string            `json:"logGroupName"`
	Key       string            `json:"kmsKeyId"`
	Class     string            `json:"logGroupClass"`
	Protected bool              `json:"deletionProtectionEnabled"`
	Tags      map[string]string `json:"tags"`
}

// createLogGroup takes any class, and keeps the events of all of them in the
// same way.
func (h *Handler) createLogGroup(c *call, in *createLogGroupInput) (any, error) {
	if err := newGroupName(in.Group); err != nil {
		return nil, err
	}
	switch {
	case in.Key != "":
		return nil, notBuilt("CreateLogGroup with kmsKeyId")
	case in.Class != "" && !slices.Contains(logClasses, in.Class):
		return nil, hearth.Errorf(hearth.InvalidParameter,
			"1 validation error detected: Value '%s' at 'logGroupClass' failed to satisfy constraint: Member must satisfy enum value set: [%s]", in.Class, strings.Join(logClasses, ", "))
	case h.Logs == nil:
		return nil, notBuilt("CreateLogGroup without a store of logs")
	}
	if err := logTags(in.Tags); err != nil {
		return nil, err
	}
	return nil, h.Logs.CreateGroup(c.ctx, c.account(), in.Group, logs.NewGroup{
		Class: cmp.Or(in.Class, logClasses[0]), Protected: in.Protected, Tags: in.Tags,
	})
}

type logGroupInput struct {
	Group      string `json:"logGroupName"`
	Identifier string `json:"logGroupIdentifier"`
}

func (h *Handler) deleteLogGroup(c *call, in *logGroupInput) (any, error) {
	group, err := h.groupName(c, in.Group, "")
	if err != nil {
		return nil, err
	}
	return nil, h.Logs.DeleteGroup(c.ctx, c.account(), group)
}

type protectLogGroupInput struct {
	logGroupInput
	Protected *bool `json:"deletionProtectionEnabled"`
}

func (h *Handler) putLogGroupDeletionProtection(c *call, in *protectLogGroupInput) (any, error) {
	group, err := h.groupName(c, in.Group, in.Identifier)
	if err != nil {
		return nil, err
	}
	if in.Protected == nil {
		return nil, missing("deletionProtectionEnabled")
	}
	return nil, h.Logs.Protect(c.ctx, c.account(), group, *in.Protected)
}

// retentions are the days that a retention may have.
var retentions = []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

type putRetentionPolicyInput struct {
	logGroupInput
	Days *int `json:"retentionInDays"`
}

func (h *Handler) putRetentionPolicy(c *call, in *putRetentionPolicyInput) (any, error) {
	group, err := h.groupName(c, in.Group, "")
	if err != nil {
		return nil, err
	}
	switch {
	case in.Days == nil:
		return nil, missing("retentionInDays")
	case !slices.Contains(retentions, *in.Days):
		set := strings.ReplaceAll(strings.Trim(fmt.Sprint(retentions), "[]"), " ", ", ")
		return nil, hearth.Errorf(hearth.InvalidParameter,
			"1 validation error detected: Value '%d' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: [%s]", *in.Days, set)
	}
	return nil, h.Logs.SetRetention(c.ctx, c.account(), group, *in.Days)
}

func (h *Handler) deleteRetentionPolicy(c *call, in *logGroupInput) (any, error) {
	group, err := h.groupName(c, in.Group, "")
	if err != nil {
		return nil, err
	}
	return nil, h.Logs.SetRetention(c.ctx, c.account(), group, 0)
}

type logTagsOutput struct {
	Tags map[string]string `json:"tags"`
}

func (h *Handler) logGroupTags(c *call, name, arn string) (out logTagsOutput, err error) {
	group, err := h.groupName(c, name, arn)
	if err != nil {
		return out, err
	}
	out.Tags, err = h.Logs.GroupTags(c.ctx, c.account(), group)
	if out.Tags == nil {
		out.Tags = map[string]string{}
	}
	return out, err
}

func (h *Handler) changeLogGroupTags(c *call, name, arn string, add map[string]string, remove []string) (any, error) {
	group, err := h.groupName(c, name, arn)
	if err != nil {
		return nil, err
	}
	if remove != nil {
		return nil, h.Logs.UntagGroup(c.ctx, c.account(), group, remove)
	}
	if err := logTags(add); err != nil {
		return nil, err
	}
	return nil, h.Logs.TagGroup(c.ctx, c.account(), group, add)
}

// The operations on tags come twice: by a resource's ARN, and by a group's
// name, which is the older form. Groups are the only resources here.

type logResourceInput struct {
	ARN     string            `json:"resourceArn"`
	Tags    map[string]string `json:"tags"`
	TagKeys []string          `json:"tagKeys"`
}

// check refuses what is no log group's ARN.
func (in *logResourceInput) check(h *Handler, c *call) error {
	switch prefix := h.groupARN(c, ""); {
	case in.ARN == "":
		return missing("resourceArn")
	case !strings.HasPrefix(in.ARN, prefix) || len(in.ARN) == len(prefix):
		return hearth.Errorf(hearth.NotFound, "The specified resource does not exist.")
	}
	return nil
}

func (h *Handler) listTagsForLogGroup(c *call, in *logResourceInput) (out logTagsOutput, err error) {
	if err := in.check(h, c); err != nil {
		return out, err
	}
	return h.logGroupTags(c, "", in.ARN)
}

func (h *Handler) tagLogResource(c *call, in *logResourceInput) (any, error) {
	if err := in.check(h, c); err != nil {
		return nil, err
	}
	if in.Tags == nil {
		return nil, missing("tags")
	}
	return h.changeLogGroupTags(c, "", in.ARN, in.Tags, nil)
}

func (h *Handler) untagLogResource(c *call, in *logResourceInput) (any, error) {
	if err := in.check(h, c); err != nil {
		return nil, err
	}
	if in.TagKeys == nil {
		return nil, missing("tagKeys")
	}
	return h.changeLogGroupTags(c, "", in.ARN, nil, in.TagKeys)
}

func (h *Handler) listTagsLogGroup(c *call, in *logGroupInput) (logTagsOutput, error) {
	return h.logGroupTags(c, in.Group, "")
}

type tagLogGroupInput struct {
	Group string            `json:"logGroupName"`
	Tags  map[string]string `json:"tags"`
}

func (h *Handler) tagLogGroup(c *call, in *tagLogGroupInput) (any, error) {
	if in.Tags == nil {
		return nil, missing("tags")
	}
	return h.changeLogGroupTags(c, in.Group, "", in.Tags, nil)
}

type untagLogGroupInput struct {
	Group string   `json:"logGroupName"`
	Keys  []string `json:"tags"`
}

func (h *Handler) untagLogGroup(c *call, in *untagLogGroupInput) (any, error) {
	if in.Keys == nil {
		return nil, missing("tags")
	}
	return h.changeLogGroupTags(c, in.Group, "", nil, in.Keys)
}
