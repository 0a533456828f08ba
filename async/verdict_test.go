package async

import (
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

func TestAnAttemptIsJudgedAsTheServiceDoes(t *testing.T) {
	accepted := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	failed := &hearth.Result{FunctionError: "Unhandled"}
	throttled := hearth.Errorf(hearth.TooManyRequests, "Rate Exceeded.")
	for name, c := range map[string]struct {
		before   event
		policy   Policy
		result   *hearth.Result
		err      error
		after    time.Duration // since it was accepted
		want     verdict
		wait     time.Duration
		attempts int
		misses   int
	}{
		"success":                      {result: &hearth.Result{}, policy: DefaultPolicy, want: verdict{fate: fateSuccess, condition: "Success"}},
		"the first failure":            {result: failed, policy: DefaultPolicy, want: verdict{fate: fateRetry}, wait: time.Minute, attempts: 1},
		"the second":                   {before: event{Attempts: 1}, result: failed, policy: DefaultPolicy, want: verdict{fate: fateRetry}, wait: 2 * time.Minute, attempts: 2},
		"the third":                    {before: event{Attempts: 2}, result: failed, policy: DefaultPolicy, want: verdict{fate: fateFailure, condition: "RetriesExhausted"}, attempts: 3},
		"no retries":                   {result: failed, policy: Policy{MaxAge: time.Hour}, want: verdict{fate: fateFailure, condition: "RetriesExhausted"}, attempts: 1},
		"too old for a retry":          {result: failed, policy: DefaultPolicy, after: 6*time.Hour - time.Second, want: verdict{fate: fateFailure, condition: "EventAgeExceeded"}, attempts: 1},
		"a throttle":                   {err: throttled, policy: DefaultPolicy, want: verdict{fate: fateRetry}, wait: 750 * time.Millisecond, misses: 1},
		"many throttles":               {before: event{Misses: 40}, err: throttled, policy: DefaultPolicy, want: verdict{fate: fateRetry}, wait: 225 * time.Second, misses: 41},
		"a throttle counts no attempt": {before: event{Attempts: 2}, err: throttled, policy: DefaultPolicy, want: verdict{fate: fateRetry}, wait: 750 * time.Millisecond, attempts: 2, misses: 1},
		"a function that is halted":    {err: throttled, policy: Policy{MaxAge: time.Hour, MaxRetries: 2, Halted: true}, want: verdict{fate: fateFailure, condition: "RetriesExhausted"}},
		"throttled to the end":         {err: throttled, policy: Policy{MaxAge: time.Minute}, after: time.Minute, want: verdict{fate: fateFailure, condition: "EventAgeExceeded"}, misses: 1},
		"a function that is gone":      {err: hearth.Errorf(hearth.NotFound, ""), policy: DefaultPolicy, want: verdict{fate: fateVoid}},
		"a function that is not ready": {err: hearth.Errorf(hearth.Conflict, ""), policy: DefaultPolicy, want: verdict{fate: fateRetry}, wait: 750 * time.Millisecond, misses: 1},
		"never allowed":                {err: hearth.Errorf(hearth.AccessDenied, ""), policy: DefaultPolicy, want: verdict{fate: fateFailure, condition: "RetriesExhausted"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := c.before
			e.Accepted = accepted
			now := accepted.Add(c.after)
			if c.want.fate == fateRetry {
				c.want.due = now.Add(c.wait)
			}
			if got := c.policy.judge(&e, c.result, c.err, DefaultDelays, now, 0.5); got != c.want {
				t.Errorf("judged %+v, want %+v", got, c.want)
			}
			if e.Attempts != c.attempts || e.Misses != c.misses {
				t.Errorf("counted %d attempts and %d misses", e.Attempts, e.Misses)
			}
		})
	}
}
