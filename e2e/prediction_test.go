package e2e

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	awshttp "github.com/aws/smithy-go/transport/http"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

// What the scenarios of the systems that foretell invocations share.

// chained is an event of testdata/chain, and a call that it makes.
type chained struct {
	DelayMs int        `json:"delayMs,omitempty"`
	Calls   []toBeCall `json:"calls,omitempty"`
}

type toBeCall struct {
	Function string  `json:"function"`
	Async    bool    `json:"async,omitempty"`
	Tagless  bool    `json:"tagless,omitempty"`
	Event    chained `json:"event"`
}

// chainAnswer is what testdata/chain answers.
type chainAnswer struct {
	Trace string `json:"trace"`
	N     int    `json:"n"`
}

// deployChain makes functions of testdata/chain whose init takes that long.
func (s *server) deployChain(init time.Duration, names ...string) {
	s.t.Helper()
	code := goZip(s.t, "chain")
	for _, name := range names {
		s.deploy(function{name: name, runtime: "provided.al2023", handler: "bootstrap", timeout: 20, memory: 128, zip: code,
			env: map[string]string{"INIT_MS": strconv.Itoa(int(init.Milliseconds()))}})
	}
}

// chain runs a function of testdata/chain; trace, if it is not "", is the tag
// that a service outside hands on.
func (s *server) chain(name string, e chained, trace string) chainAnswer {
	payload, err := json.Marshal(e)
	if err != nil {
		s.t.Error(err)
	}
	out, err := s.client().Invoke(s.t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: payload}, func(o *lambda.Options) {
		if trace != "" {
			o.APIOptions = append(o.APIOptions, awshttp.SetHeaderValue("X-Amzn-Trace-Id", trace))
		}
	})
	var a chainAnswer
	switch {
	case err != nil:
		s.t.Errorf("invoke %s: %v", name, err)
	case out.FunctionError != nil:
		s.t.Errorf("%s: %s", name, out.Payload)
	default:
		if err := json.Unmarshal(out.Payload, &a); err != nil {
			s.t.Errorf("%s answers %s: %v", name, out.Payload, err)
		}
	}
	return a
}

// controlClient is a client of Hearth's own API.
func (s *server) controlClient() *control.Client {
	return &control.Client{Endpoint: s.endpoint, Region: s.get("AWS_REGION"), Credentials: credentials.StaticCredentialsProvider{Value: s.credentials()}}
}

// tell are the decisions of a kind about a function, oldest first, that are
// younger than the one with that number.
func (s *server) tell(name string, kind hearth.DecisionKind, after uint64) (told []hearth.Decision) {
	s.t.Helper()
	ds, err := s.controlClient().Find(s.t.Context(), control.DecisionQuery{Function: name, Kind: kind, Limit: control.MaxDecisions})
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Reverse(ds)
	return slices.DeleteFunc(ds, func(d hearth.Decision) bool { return d.Seq <= after })
}

// last is the number of the last decision.
func (s *server) last() uint64 {
	s.t.Helper()
	ds, err := s.controlClient().Find(s.t.Context(), control.DecisionQuery{Limit: 1})
	if err != nil || len(ds) == 0 {
		s.t.Fatalf("%v, %v", ds, err)
	}
	return ds[0].Seq
}

// starts is how invocations of a function were served.
type starts struct {
	n, foretold, cold int
	took              []time.Duration // until the code was there, in order
	made, wasted      int             // containers on predictions
}

func (s *server) startsOf(name string, after uint64) (got starts) {
	s.t.Helper()
	hit := map[string]bool{}
	for _, d := range s.tell(name, hearth.DecisionPrepare, after) {
		switch d.Chosen {
		case "hit":
			hit[d.RequestID] = true
		case "waste":
			got.wasted++
		case "none":
		default:
			got.made++
		}
	}
	for _, d := range s.tell(name, hearth.DecisionPlace, after) {
		if d.Container == "" {
			continue // accepted, to be run later
		}
		got.n++
		if hit[d.RequestID] {
			got.foretold++
		} else if d.Chosen != string(hearth.PathReuse) {
			got.cold++
		}
		got.took = append(got.took, d.Spent[hearth.StagePlace]+d.Spent[hearth.StageAttach]+d.Spent[hearth.StageBoot]+d.Spent[hearth.StageInit])
	}
	slices.Sort(got.took)
	return got
}

func (g starts) median() time.Duration {
	if len(g.took) == 0 {
		return 0
	}
	return g.took[len(g.took)/2]
}

// must runs the command line and demands that it succeeds.
func (s *server) must(args ...string) string {
	s.t.Helper()
	out, err := s.hearth(args...)
	if err != nil {
		s.t.Fatalf("hearth %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// killIdle kills the processes of the function's container from outside.
func killIdle(t testing.TB, function string) bool {
	t.Helper()
	killed := false
	for _, pid := range processesOf(function) {
		killed = end(pid) || killed
	}
	return killed
}
