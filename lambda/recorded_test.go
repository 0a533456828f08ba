package lambda

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Every error that the real service was recorded to answer is provoked here
// and must be answered in its words. The areas of the API each provoke theirs;
// what nobody provokes must be excused by name, with the reason.

// provocations are by area. Each has a world of its own, and gives every error
// that it provokes to try.
var provocations = map[string]func(*provoker){
	"S3":           provokeS3,
	"images":       provokeImages,
	"functions":    provokeFunctions,
	"aliases":      provokeAliases,
	"invocations":  provokeInvocations,
	"tags":         provokeTags,
	"code signing": provokeCodeSigning,
	"concurrency":  provokeConcurrency,
	"capacity":     provokeProviders,
	"permissions":  provokePermissions,
	"event invoke": provokeEventInvoke,
	"recursion":    provokeRecursion,
	"layers":       provokeLayers,
	"URLs":         provokeURLs,
	"mappings":     provokeMappings,
}

type provoker struct {
	*world
	area  string
	found map[string]string // what was answered → the area that provoked it
}

// try notes the error that an operation gave. That it gave none is a failure.
func (p *provoker) try(err error) {
	p.t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		p.t.Errorf("%s: no error of the API: %v", p.area, err)
		return
	}
	status := 0
	if r, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		status = r.HTTPStatusCode()
	}
	p.found[fmt.Sprintf("%d %s %s", status, api.ErrorCode(), api.ErrorMessage())] = p.area
}

// failed is the error of an operation whose output is of no interest.
func failed[T any](_ T, err error) error { return err }

// excused are the beginnings of recorded messages that Hearth does not
// answer, and why.
var excused = map[string]string{
	"Error occurred while DescribeSubnets":        "there is no EC2 here: subnets are kept and select nothing",
	"Error occurred while DescribeSecurityGroups": "the same",

	"The runtime parameter of provided is no longer supported": "Hearth still runs provided, as its successors",

	"Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: {\"SMALL_VAR\"": "" +
		"the order in which variables were sent is not kept: they are told in that of their names",
}

// recording is one line of the recordings.
type recording struct {
	line    int
	message string // as recorded
	pattern *regexp.Regexp
}

var recordedLine = regexp.MustCompile(`^\((\d+), '(\w+)', (?:'(.*)'|"(.*)")\)$`)

func recordings(t *testing.T) (all []recording) {
	t.Helper()
	data, err := os.ReadFile("testdata/recorded-errors.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		m := recordedLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("line %d is not a recording: %s", n, line)
		}
		message := strings.ReplaceAll(m[3]+m[4], `\\`, `\`)
		all = append(all, recording{n, message, matcher(m[1], m[2], message)})
	}
	return all
}

// enumeration is a list of runtimes, which differ from service to service.
var enumeration = regexp.MustCompile(`(enum value set: \\\[)[a-z][^\]]*(ruby|nodejs|python)[^\]]*(\\\])?`)

// cutAt is the length, in characters, at which recorded messages were cut.
const cutAt = 300

// matcher matches the answers that are like the recorded one: its names stand
// for any, and it may have been cut.
func matcher(status, code, message string) *regexp.Regexp {
	p := regexp.QuoteMeta(message)
	p = strings.ReplaceAll(p, "<partition>", "aws")
	p = strings.ReplaceAll(p, "<region>", "us-east-1")
	p = strings.ReplaceAll(p, "111111111111", "[0-9]{12}")
	p = regexp.MustCompile(`<[a-z_:0-9-]+>`).ReplaceAllString(p, "[^ ]+?")
	p = enumeration.ReplaceAllString(p, "${1}.*")
	if message == "" { // of a refusal, whose words were not kept
		return regexp.MustCompile("^" + status + " " + code + " ")
	}
	end := "$"
	if len(message) >= cutAt || strings.Contains(p, ".*") {
		end = ""
	}
	return regexp.MustCompile("^" + status + " " + code + " " + p + end)
}

func TestEveryRecordedErrorIsAnsweredInTheServicesWords(t *testing.T) {
	found := map[string]string{}
	for _, area := range slices.Sorted(maps.Keys(provocations)) {
		t.Run(area, func(t *testing.T) {
			provocations[area](&provoker{world: newWorld(t), area: area, found: found})
		})
	}
	matched := map[string]bool{}
	used := map[string]bool{}
	var missing []string
	for _, r := range recordings(t) {
		hit := false
		for answer := range found {
			if r.pattern.MatchString(answer) {
				hit, matched[answer] = true, true
			}
		}
		if hit {
			continue
		}
		if why := excuse(r.message, used); why == "" {
			missing = append(missing, strconv.Itoa(r.line)+": "+r.message)
		}
	}
	for answer, area := range found {
		if !matched[answer] {
			t.Errorf("%s: nothing like it was recorded: %s", area, answer)
		}
	}
	for prefix := range excused {
		if !used[prefix] {
			t.Errorf("excused without need: %s", prefix)
		}
	}
	if len(missing) > 0 {
		t.Errorf("%d recorded errors are neither provoked nor excused:\n%s", len(missing), strings.Join(missing, "\n"))
	}
}

func excuse(message string, used map[string]bool) string {
	for prefix, why := range excused {
		if strings.HasPrefix(message, prefix) {
			used[prefix] = true
			return why
		}
	}
	return ""
}
