package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/internal/sdkhttp"
	"github.com/hearth-faas/hearth/meter"
)

// The acceptance scenario of task APIs: the operator's account publishes the API
// img of the tasks resize, thumb and exif, each of which burns as much processor
// time as it is asked to. Three accounts subscribe and call; a fourth has not.
// Each account's bill is held against what the kernel has counted for its
// instances, read from outside. In the control run there is no API: the owner
// calls its functions itself, and pays.

var s06Tasks = []string{"resize", "thumb", "exif"}

// s06Costs are the milliseconds of processor time that calls take.
var s06Costs = []int{10, 50, 200}

const s06Alias = "img"

// s06Account is an account with a client of its own.
type s06Account struct {
	s           *server
	id          hearth.Account
	key, secret string
	taskKey     string // an API key
}

func (s *server) s06Account(name string) *s06Account {
	s.t.Helper()
	var made struct {
		Account struct {
			ID hearth.Account `json:"id"`
		} `json:"account"`
		AccessKeyID     string `json:"accessKeyId"`
		SecretAccessKey string `json:"secretAccessKey"`
	}
	if err := json.Unmarshal([]byte(s.must("account", "create", name, "--json")), &made); err != nil {
		s.t.Fatal(err)
	}
	return &s06Account{s: s, id: made.Account.ID, key: made.AccessKeyID, secret: made.SecretAccessKey}
}

func (a *s06Account) credentials() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(a.key, a.secret, "")
}

func (a *s06Account) client() *lambda.Client {
	return lambda.NewFromConfig(aws.Config{BaseEndpoint: &a.s.endpoint, Region: a.s.get("AWS_REGION"), Credentials: a.credentials(), RetryMaxAttempts: 1, HTTPClient: sdkhttp.Client{}})
}

func (a *s06Account) control() *control.Client {
	return &control.Client{Endpoint: a.s.endpoint, Region: a.s.get("AWS_REGION"), Credentials: a.credentials()}
}

// hearth runs the command line as the account.
func (a *s06Account) hearth(args ...string) (string, error) {
	cmd := exec.Command(hearthBinary, args...)
	cmd.Env = cleanEnv("AWS_ENDPOINT_URL="+a.s.endpoint, "AWS_REGION="+a.s.get("AWS_REGION"), "AWS_ACCESS_KEY_ID="+a.key, "AWS_SECRET_ACCESS_KEY="+a.secret)
	return output(cmd)
}

func (a *s06Account) must(args ...string) string {
	a.s.t.Helper()
	out, err := a.hearth(args...)
	if err != nil {
		a.s.t.Fatal(err)
	}
	return out
}

// s06Answer is what a task says.
type s06Answer struct {
	Task    string `json:"task"`
	Release string `json:"release"`
	Burned  int64  `json:"burned"`
	request string
}

// call calls a task, by the Lambda API or with an API key by HTTP.
func (a *s06Account) call(ctx context.Context, name, stage string, ms int, byHTTP bool) (s06Answer, error) {
	payload := []byte(fmt.Sprintf(`{"ms": %d}`, ms))
	var answer s06Answer
	if byHTTP {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.s.endpoint+"/tasks/"+string(hearth.DefaultAccount)+"/img/"+stage+"/"+strings.TrimPrefix(name, s06Alias+"--"), bytes.NewReader(payload))
		if err != nil {
			return answer, err
		}
		req.Header.Set("X-Api-Key", a.taskKey)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return answer, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, body)
		}
		if err == nil {
			err = json.Unmarshal(body, &answer)
		}
		answer.request = resp.Header.Get("X-Hearth-Request-Id")
		return answer, err
	}
	out, err := a.client().Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Qualifier: &stage, Payload: payload})
	if err != nil {
		return answer, err
	}
	if out.FunctionError != nil {
		return answer, fmt.Errorf("%s: %s", *out.FunctionError, out.Payload)
	}
	answer.request, _ = awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return answer, json.Unmarshal(out.Payload, &answer)
}

// s06 is the scenario's owner and functions.
type s06 struct {
	*server
	t       *testing.T
	owner   hearth.Account
	program []byte
}

// release gives functions a new release, which is not published.
func (w *s06) release(n int, names ...string) {
	w.t.Helper()
	for _, name := range names {
		_, err := w.client().UpdateFunctionConfiguration(w.t.Context(), &lambda.UpdateFunctionConfigurationInput{
			FunctionName: &name, Environment: &types.Environment{Variables: map[string]string{"TASK": name, "RELEASE": strconv.Itoa(n)}},
		})
		if err != nil {
			w.t.Fatal(err)
		}
		w.waitActive(name)
	}
}

func newS06(t *testing.T) *s06 {
	w := &s06{server: start(t), t: t, owner: hearth.DefaultAccount, program: goZip(t, "burn")}
	for _, name := range s06Tasks {
		w.deploy(function{name: name, runtime: "provided.al2023", handler: "bootstrap", zip: w.program, memory: 512, timeout: 60, env: map[string]string{"TASK": name, "RELEASE": "1"}})
	}
	return w
}

func TestS06TaskSetAsAnAPI(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		lacking(t, "an ordinary user's bills are not exact: see docs/billing.md")
	}
	w := newS06(t)
	s06Subscribed(t, w)
}

// s06Subscribed is the run with the API.
func s06Subscribed(t *testing.T, w *s06) {
	calls := 120
	if fullScenarios() {
		calls = 3000
	}
	outside := s06Watch(t, w.dir)
	w.must("tasks", "create", "img", "--markup", "0.5", "--open")
	w.must("tasks", "put", "img", "resize=resize", "thumb=thumb", "exif=exif")
	w.must("bill", "prices", "set", "currency=EUR", "cpuSecond=1", "call=0.001")
	var accounts []*s06Account
	for i := range 3 {
		a := w.s06Account(fmt.Sprint("team-", i))
		a.must("tasks", "subscribe", string(w.owner)+"/img")
		a.taskKey = strings.TrimSpace(a.must("tasks", "key", "create", s06Alias))
		accounts = append(accounts, a)
	}
	stranger := w.s06Account("stranger")
	s06Refused(t, w, stranger)

	// The calls: each worker has an order of its own, and knows which sets it
	// may see. Set 2 has another thumb, set 3 another of everything.
	sets := map[string][2]int{"resize/1": {1, 2}, "exif/1": {1, 2}, "thumb/1": {1, 1}, "thumb/2": {2, 2}, "resize/3": {3, 3}, "exif/3": {3, 3}, "thumb/3": {3, 3}}
	const workers = 2 // of each account
	var all sync.WaitGroup
	var mu sync.Mutex
	burned, made, seen := map[hearth.Account]time.Duration{}, map[hearth.Account]int{}, map[int]int{}
	requests := map[string]hearth.Account{}
	thirds := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	total := 0
	updated, failed := make(chan struct{}), make(chan struct{})
	fail := sync.OnceFunc(func() { close(failed) })
	defer fail()
	for n, a := range accounts {
		for k := range workers {
			all.Go(func() {
				random := rand.New(rand.NewPCG(6, uint64(n*workers+k)))
				last := 0
				mine := calls / (len(accounts) * workers)
				for i := range mine + len(s06Tasks) {
					task, ms := s06Tasks[random.IntN(3)], s06Costs[random.IntN(3)]
					if i >= mine { // every task once more, when all is changed
						select {
						case <-updated:
						case <-failed:
							return
						}
						task, ms, last = s06Tasks[i-mine], s06Costs[0], 3
					}
					answer, err := a.call(t.Context(), s06Alias+"--"+task, "prod", ms, i%5 == 4)
					if err != nil || answer.Task != task {
						t.Errorf("%s calls %s: %+v, %v", a.id, task, answer, err)
						fail()
						return
					}
					set, known := sets[task+"/"+answer.Release]
					if !known || set[1] < last {
						t.Errorf("%s sees release %s of %s after it has seen the set %d", a.id, answer.Release, task, last)
					}
					last = max(last, set[0])
					mu.Lock()
					burned[a.id] += time.Duration(answer.Burned)
					made[a.id]++
					seen[set[0]]++
					requests[answer.request] = a.id
					if total++; total == calls/3 || total == calls/3*2 {
						close(thirds[total/(calls/3)-1])
					}
					mu.Unlock()
				}
			})
		}
	}
	reached := func(third chan struct{}) bool {
		select {
		case <-third:
			return true
		case <-failed:
			return false
		}
	}
	if reached(thirds[0]) {
		w.release(2, "thumb")
		w.must("tasks", "put", "img", "thumb=thumb")
		w.release(3, s06Tasks...)
	}
	if reached(thirds[1]) {
		w.must("tasks", "put", "img", "resize=resize", "thumb=thumb", "exif=exif")
		close(updated)
	}
	all.Wait()
	if t.Failed() {
		return
	}
	t.Logf("calls by the set that they saw first to have been at work: %v", seen)

	// The bills, held against the kernel.
	names := []string{}
	for _, task := range s06Tasks {
		names = append(names, s06Alias+"--"+task)
	}
	whose := map[string]hearth.Account{}
	sum, worst := 0.0, 0.0
	for _, a := range accounts {
		placed := s06Placed(t, a.control(), names...)
		for id, d := range placed {
			if d.Account != a.id || d.Owner != w.owner || whose[d.Instance] != "" && whose[d.Instance] != a.id {
				t.Errorf("a call of %s ran in an instance of %s and %s, which served %s too: %+v", a.id, d.Account, d.Owner, whose[d.Instance], d)
			}
			whose[d.Instance] = a.id
			if requests[id] != a.id {
				t.Errorf("request %s is of %s, and was placed for %s", id, requests[id], a.id)
			}
		}
		if len(placed) != made[a.id] {
			t.Errorf("%d placements of %d calls of %s", len(placed), made[a.id], a.id)
		}
		b := s06Bill(t, a.control(), meter.Query{By: "api"})
		counted := outside.of(s06Instances(placed))
		off := s06Near(t, "account "+string(a.id), b.Total.CPUSeconds, counted, outside.making(placed))
		worst = max(worst, math.Abs(off))
		if len(b.Lines) != 1 || b.Lines[0].API != "img" || b.Lines[0].Stage != "prod" || b.Lines[0].Calls != int64(made[a.id]) || b.Lines[0].Errors != 0 || b.Lines[0].Owner != w.owner {
			t.Errorf("%s made %d calls, and its bill says %+v", a.id, made[a.id], b.Lines)
		}
		if b.Total.CPUSeconds < burned[a.id].Seconds() {
			t.Errorf("%s is billed %.3f s, and its calls burned %.3f s", a.id, b.Total.CPUSeconds, burned[a.id].Seconds())
		}
		if want := 1.5 * (b.Total.CPUSeconds + 0.001*float64(b.Total.Calls)); math.Abs(b.Total.Cost-want) > 1e-6 || math.Abs(b.Total.Markup-want/3) > 1e-6 {
			t.Errorf("%s pays %v, of which %v to the owner; want %v", a.id, b.Total.Cost, b.Total.Markup, want)
		}
		sum += b.Total.CPUSeconds
		t.Logf("account %s: %d calls, billed %.3f s of processor time, counted by the kernel %.3f s (%+.2f %%), burned by the code %.3f s",
			a.id, made[a.id], b.Total.CPUSeconds, counted.Seconds(), 100*off, burned[a.id].Seconds())
	}
	// Between one bill and the next even a container that has nothing to do
	// moves a little.
	const rest = 0.005
	operator := w.controlClient()
	own := s06Bill(t, operator, meter.Query{})
	if own.Total.Calls != 0 || own.Total.CPUSeconds != 0 || own.Total.Cost != 0 || math.Abs(own.RevenueTotal.CPUSeconds-sum) > rest*sum || own.RevenueTotal.Cost <= 0 {
		t.Errorf("the owner's bill has %+v, and as revenue %+v of %.3f s", own.Total, own.RevenueTotal, sum)
	}
	everything := s06Bill(t, operator, meter.Query{Account: control.AllAccounts, By: "account"})
	nobody, lines := 0.0, 0.0
	for _, l := range everything.Lines {
		lines += l.CPUSeconds
		if l.Account == meter.Nobody {
			nobody = l.CPUSeconds
		}
	}
	if math.Abs(everything.Total.CPUSeconds-lines) > 1e-6 || math.Abs(lines-nobody-sum) > rest*sum {
		t.Errorf("the bills come to %.6f s, and all accounts' to %.6f s of %.6f s", sum, lines-nobody, everything.Total.CPUSeconds)
	}
	whole, err := s06Read(outside.root)
	if err != nil {
		t.Fatal(err)
	}
	off := s06Near(t, "everything", everything.Total.CPUSeconds, whole, 0)
	t.Logf("all: %d calls, billed %.3f s and %.3f s nobody's, counted %.3f s (%+.2f %%); worst account %.2f %%", len(requests), sum, nobody, whole.Seconds(), 100*off, 100*worst)

	s06Withdrawn(t, w, accounts)
	s06Killed(t, w, accounts[0])
}

// s06Refused: who has not subscribed is refused, whichever way it asks.
func s06Refused(t *testing.T, w *s06, stranger *s06Account) {
	t.Helper()
	for _, name := range []string{"thumb", s06Alias + "--thumb"} {
		arn := "arn:aws:lambda:" + w.get("AWS_REGION") + ":" + string(w.owner) + ":function:" + name
		_, err := stranger.client().Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &arn})
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "AccessDeniedException" {
			t.Errorf("a stranger calls %s: %v", arn, err)
		}
	}
	stranger.taskKey = "hk-guessed"
	if _, err := stranger.call(t.Context(), s06Alias+"--thumb", "prod", 1, true); err == nil || !strings.Contains(err.Error(), "AccessDeniedException") {
		t.Errorf("a stranger calls with a key that it guessed: %v", err)
	}
	if _, err := stranger.call(t.Context(), s06Alias+"--thumb", "prod", 1, false); err == nil || !strings.Contains(err.Error(), "ResourceNotFoundException") {
		t.Errorf("a stranger has a name of the API: %v", err)
	}
	if b := s06Bill(t, stranger.control(), meter.Query{}); len(b.Lines) != 0 {
		t.Errorf("a stranger's bill: %+v", b.Lines)
	}
	if _, err := stranger.control().Bill(t.Context(), meter.Query{Account: w.owner}); err == nil {
		t.Error("a stranger sees another's bill")
	}
}

// s06Withdrawn: the owner withdraws access from one account, and the others go on.
func s06Withdrawn(t *testing.T, w *s06, accounts []*s06Account) {
	t.Helper()
	w.must("tasks", "withdraw", "img", string(accounts[2].id))
	for _, byHTTP := range []bool{true, false} {
		if _, err := accounts[2].call(t.Context(), s06Alias+"--exif", "prod", 1, byHTTP); err == nil || !strings.Contains(err.Error(), "AccessDeniedException") {
			t.Errorf("an account whose access was withdrawn calls: %v", err)
		}
		if _, err := accounts[1].call(t.Context(), s06Alias+"--exif", "prod", 1, byHTTP); err != nil {
			t.Errorf("another account: %v", err)
		}
	}
}

// s06Killed: what was billed is billed after a kill, nothing is billed twice, and
// what is lost is bounded by what was used since.
func s06Killed(t *testing.T, w *s06, a *s06Account) {
	t.Helper()
	before := s06Bill(t, a.control(), meter.Query{})
	calls := int64(0)
	for range 5 {
		if _, err := a.call(t.Context(), s06Alias+"--thumb", "prod", 10, false); err != nil {
			t.Fatal(err)
		}
		calls++
	}
	w.kill9()
	dir := w.dir
	w.server = startIn(t, dir)
	a.s = w.server
	after := s06Bill(t, a.control(), meter.Query{})
	if d := after.Total.Calls - before.Total.Calls; d < 0 || d > calls || after.Total.CPUSeconds < before.Total.CPUSeconds-1e-9 {
		t.Errorf("billed before the kill: %+v, and after: %+v; %d calls were in between", before.Total, after.Total, calls)
	}
	if _, err := a.call(t.Context(), s06Alias+"--thumb", "prod", 10, true); err != nil {
		t.Errorf("after the kill: %v", err)
	}
	last := s06Bill(t, a.control(), meter.Query{})
	if last.Total.Calls != after.Total.Calls+1 {
		t.Errorf("a call after the kill: from %d to %d", after.Total.Calls, last.Total.Calls)
	}
	out := a.must("bill", "--csv")
	if !strings.HasPrefix(out, "section,month,account,function") || !strings.Contains(out, s06Alias+"--thumb,"+string(w.owner)) {
		t.Errorf("hearth bill --csv:\n%s", out)
	}
}

// TestS06ControlWithoutAnAPI is the control run: the same functions and the same
// calls, which the owner makes itself. The use is the owner's expense.
func TestS06ControlWithoutAnAPI(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		lacking(t, "an ordinary user's bills are not exact: see docs/billing.md")
	}
	w := newS06(t)
	outside := s06Watch(t, w.dir)
	calls := 60
	if fullScenarios() {
		calls = 3000
	}
	self := &s06Account{s: w.server, id: w.owner, key: w.get("AWS_ACCESS_KEY_ID"), secret: w.get("AWS_SECRET_ACCESS_KEY")}
	var all sync.WaitGroup
	for k := range 6 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(6, uint64(k)))
			for range calls / 6 {
				if _, err := self.call(t.Context(), s06Tasks[random.IntN(3)], hearth.Latest, s06Costs[random.IntN(3)], false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	b := s06Bill(t, self.control(), meter.Query{})
	placed := s06Placed(t, self.control(), s06Tasks...)
	counted := outside.of(s06Instances(placed))
	off := s06Near(t, "the owner", b.Total.CPUSeconds, counted, outside.making(placed))
	if b.Total.Calls != int64(calls) || len(b.Revenue) != 0 || !slices.Equal(slices.Sorted(maps.Keys(functionsOf(b))), []string{"exif", "resize", "thumb"}) {
		t.Errorf("%+v", b)
	}
	t.Logf("without an API the owner is billed its %d calls: %.3f s, counted %.3f s (%+.2f %%)", calls, b.Total.CPUSeconds, counted.Seconds(), 100*off)
}

func functionsOf(b *meter.Bill) map[string]bool {
	all := map[string]bool{}
	for _, l := range b.Lines {
		all[l.Function] = true
	}
	return all
}
