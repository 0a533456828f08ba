package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// judge holds the records against what the functions said of themselves and
// what was seen from here.
func (s *scenario) judge(pooled bool) s00Run {
	s.t.Helper()
	records := s.m.records()
	run := s00Run{requests: map[hearth.Path]int{}, latency: map[hearth.Path][]time.Duration{}}
	byRequest := s.everyRequestHasOneRecordAndOneAnswer(records)
	s.noInstanceIsShared(byRequest)
	run.unused = s.pathsAreTrue(records, byRequest)
	s.probesFoundNothingForeign()
	if pooled {
		s.poolRefilled(records)
	}
	for i, r := range s.done {
		d := byRequest[r.id]
		if r.err != nil || r.failed != "" {
			run.lost++
			continue
		}
		first := time.Duration(r.answer.At)
		if born := time.Duration(r.answer.Born); r.answer.N == 1 && born > r.sent {
			first = born
		}
		took := first - r.sent
		if took < 0 {
			s.t.Errorf("%s ran before it was asked to", r.event.Nonce)
		}
		if s.dead[d.Container] && time.Duration(r.answer.At) > s.gone {
			s.t.Errorf("request %s was served by a killed container", r.id)
		}
		path := hearth.Path(d.Chosen)
		if run.requests[path]++; path == hearth.PathReuse && d.Knew.Idle == 0 {
			run.waited = append(run.waited, took)
		} else {
			run.latency[path] = append(run.latency[path], took)
		}
		if i < 6 {
			run.firsts = append(run.firsts, took)
		}
	}
	return run
}

// everyRequestHasOneRecordAndOneAnswer returns the records by request id.
func (s *scenario) everyRequestHasOneRecordAndOneAnswer(records []hearth.Decision) map[string]hearth.Decision {
	s.t.Helper()
	if len(s.done) != s00Requests {
		s.t.Errorf("%d requests were sent, not %d", len(s.done), s00Requests)
	}
	found := map[string]hearth.Decision{}
	for _, d := range records {
		if d.Kind != hearth.DecisionPlace && d.Kind != hearth.DecisionRefuse {
			continue
		}
		if _, twice := found[d.RequestID]; twice {
			s.t.Errorf("request %s has two records", d.RequestID)
		}
		found[d.RequestID] = d
	}
	if len(found) != len(s.done) {
		s.t.Errorf("%d records for %d requests", len(found), len(s.done))
	}
	for _, r := range s.done {
		d, ok := found[r.id]
		switch {
		case !ok:
			s.t.Errorf("%s left no record", r.event.Nonce)
		case d.Account != r.account || d.Function != r.name || d.Kind != hearth.DecisionPlace:
			s.t.Errorf("%s left %+v", r.event.Nonce, d)
		case r.err != nil:
			s.t.Errorf("%s: %v", r.event.Nonce, r.err)
		case r.failed != "":
			// The one thing that may go wrong here: it was under way in the
			// instance that was killed, and that is what its caller is told.
			if d.Instance != s.victim || r.failed != "Runtime.ExitError" || d.Outcome != r.failed {
				s.t.Errorf("%s failed with %s (recorded %s) in instance %s; %s was killed", r.event.Nonce, r.failed, d.Outcome, d.Instance, s.victim)
			}
		case d.Outcome != "ok" || r.answer.Nonce != r.event.Nonce || r.answer.Secret != "secret-of-"+string(r.account):
			s.t.Errorf("%s: answer %+v, recorded outcome %s", r.event.Nonce, r.answer, d.Outcome)
		}
		if d.Mono <= 0 || d.Why == "" || d.Container == "" {
			s.t.Errorf("%s: the record lacks something: %+v", r.event.Nonce, d)
		}
	}
	return found
}

func (s *scenario) noInstanceIsShared(byRequest map[string]hearth.Decision) {
	s.t.Helper()
	owner := map[string]hearth.Account{}
	for _, d := range byRequest {
		if o, ok := owner[d.Instance]; ok && o != d.Account {
			s.t.Errorf("instance %s ran code of %s and of %s", d.Instance, o, d.Account)
		}
		owner[d.Instance] = d.Account
	}
}

// pathsAreTrue checks each record's path against the rest: a container that
// was reused is a live process that had run before; a new one is a process
// that had not; an instance of the path warm had been made for the pool, one
// of the path cold had not, and one of the path container was the account's
// own. It returns how many containers were made for callers that were then
// served by others.
func (s *scenario) pathsAreTrue(records []hearth.Decision, byRequest map[string]hearth.Decision) (unused int) {
	s.t.Helper()
	madeForPool := map[string]uint64{} // instance → Seq
	for _, d := range records {
		if d.Kind == hearth.DecisionReplenish && d.Account == "" {
			madeForPool[d.Instance] = d.Seq
		}
	}
	began := map[string]string{}  // container → the request that it was made for
	taken := map[string]string{}  // instance → the request that it was taken or made for
	inside := map[string]string{} // container → process
	counts := map[string][]int{}  // container → the process's counts of invocations
	for _, r := range s.done {
		d := byRequest[r.id]
		if hearth.Path(d.Chosen) != hearth.PathReuse {
			if other, twice := began[d.Container]; twice {
				s.t.Errorf("container %s was made for %s and for %s", d.Container, other, r.event.Nonce)
			}
			began[d.Container] = r.event.Nonce
		}
		switch hearth.Path(d.Chosen) {
		case hearth.PathWarm, hearth.PathCold:
			if other, twice := taken[d.Instance]; twice {
				s.t.Errorf("instance %s was new for %s and for %s", d.Instance, other, r.event.Nonce)
			}
			taken[d.Instance] = r.event.Nonce
		}
		if r.failed != "" || r.err != nil {
			continue
		}
		if p, ok := inside[d.Container]; ok && p != r.answer.Process {
			s.t.Errorf("container %s is the processes %s and %s", d.Container, p, r.answer.Process)
		}
		inside[d.Container] = r.answer.Process
		counts[d.Container] = append(counts[d.Container], r.answer.N)
	}
	for _, r := range s.done {
		d := byRequest[r.id]
		seq, pooled := madeForPool[d.Instance]
		path, ok := hearth.Path(d.Chosen), true
		switch path {
		case hearth.PathReuse:
			if r.failed == "" && r.answer.N == 1 {
				unused++
				ok = began[d.Container] == ""
			}
		case hearth.PathContainer:
			ok = taken[d.Instance] != r.event.Nonce
		case hearth.PathWarm:
			ok = pooled && seq < d.Seq
		case hearth.PathCold:
			ok = !pooled
		default:
			ok = false
		}
		if path != hearth.PathReuse && r.failed == "" && r.answer.N != 1 {
			ok = false
		}
		if !ok {
			s.t.Errorf("%s: the path %s is not true: %+v, invocation %d of its process", r.event.Nonce, d.Chosen, d, r.answer.N)
		}
	}
	processes := map[string]string{}
	for container, p := range inside {
		if other, twice := processes[p]; twice {
			s.t.Errorf("process %s is in the containers %s and %s", p, container, other)
		}
		processes[p] = container
		slices.Sort(counts[container])
		for i, n := range counts[container] {
			if n != i+1 {
				s.t.Errorf("container %s served invocations that its process counted as %v", container, counts[container])
				break
			}
		}
	}
	return unused
}

// probesFoundNothingForeign: a probe sees its own account's secret in every
// place in which there is one, which shows that it looks, and no other's.
func (s *scenario) probesFoundNothingForeign() {
	s.t.Helper()
	probes := 0
	for _, r := range s.done {
		if !r.event.Probe || r.failed != "" || r.err != nil {
			continue
		}
		probes++
		own := "secret-of-" + string(r.account)
		for _, place := range []string{"environment", "processes", "/proc/net/unix", "/tmp", "/dev", "shared memory", "memory"} {
			if !slices.Contains(r.answer.Found[own], place) {
				s.t.Errorf("the probe did not look at %s: %v", place, r.answer.Found)
			}
		}
		for secret, places := range r.answer.Found {
			if secret != own {
				s.t.Errorf("a probe of %s found %s in %q", r.account, secret, places)
			}
		}
		if len(r.answer.Processes) > 4 { // the first one, python, the child that it left
			s.t.Errorf("a probe of %s sees the processes %q", r.account, r.answer.Processes)
		}
		if r.answer.Bytes < 1<<20 {
			s.t.Errorf("a probe looked through %d bytes only", r.answer.Bytes)
		}
	}
	if probes < s00Probes {
		s.t.Errorf("%d probes", probes)
	}
}

// poolRefilled: what was taken from the pool was replaced, and what was killed
// made nobody else's place.
func (s *scenario) poolRefilled(records []hearth.Decision) {
	s.t.Helper()
	made, taken, after, lost := 0, map[string]bool{}, 0, false
	for _, d := range records {
		switch {
		case d.Kind == hearth.DecisionReplenish && d.Account == "":
			made++
			if d.Seq > s.killed {
				after++
			}
		case d.Kind == hearth.DecisionLost && d.Instance == s.pooled && d.Seq > s.killed:
			lost = true
		case d.Kind == hearth.DecisionPlace && d.Instance == s.pooled:
			s.t.Errorf("request %s was given the pool's killed instance", d.RequestID)
		case d.Kind == hearth.DecisionPlace && d.Chosen == string(hearth.PathWarm):
			taken[d.Instance] = true
		}
	}
	if made < len(taken) {
		s.t.Errorf("%d instances were taken from the pool, and %d made for it", len(taken), made)
	}
	// That the pool is what it is to be, the scenario has waited for.
	if !lost || after == 0 && s.others == 0 {
		s.t.Errorf("the death of the pool's instance %s was noticed: %v; %d instances were made for the pool after it, which had %d others", s.pooled, lost, after, s.others)
	}
}

var secretPattern = regexp.MustCompile(`secret-of-[0-9]{12}`)

// secretsAreGone: no process of this machine has anything of the accounts once
// their instances have been released.
func (s *scenario) secretsAreGone() {
	s.t.Helper()
	for _, file := range []string{"cmdline", "environ", "comm"} {
		paths, _ := filepath.Glob("/proc/[0-9]*/" + file)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err == nil && secretPattern.Match(text) { // an error: it has ended
				s.t.Errorf("%s has %s", path, secretPattern.Find(text))
			}
		}
	}
	sockets, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		s.t.Fatal(err)
	}
	if secretPattern.Match(sockets) {
		s.t.Errorf("a socket of the host is called %s", secretPattern.Find(sockets))
	}
	for _, dir := range []string{"/tmp", "/dev/shm", "/var/tmp"} {
		names, _ := filepath.Glob(dir + "/*secret-of-*")
		if len(names) > 0 {
			s.t.Errorf("files of the host: %s", strings.Join(names, " "))
		}
	}
	segments, err := os.ReadFile("/proc/sysvipc/shm")
	if err == nil && strings.Contains(string(segments), fmt.Sprint(0x5EC2E7)) {
		s.t.Error("a shared memory segment of a function is the host's")
	}
}
