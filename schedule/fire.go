package schedule

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/delivery"
	"github.com/hearth-faas/hearth/store"
)

// fire is the Fire of schedules.
func (s *Schedules) fire(ctx context.Context, name string, due time.Time) error {
	now := s.now()
	var fired int
	// What is due is worked out before the transaction, which others wait for:
	// of a schedule that was due long ago that may take a moment.
	var was []byte
	err := s.cfg.Store.View(ctx, func(r store.Reader) (err error) {
		was, _, err = r.Get(schedulesBucket, name)
		return err
	})
	if err != nil {
		return err
	}
	var n Schedule
	current := was != nil && json.Unmarshal(was, &n) == nil && n.Next.Equal(due) && !n.Disabled
	var times []time.Time
	if current {
		e, err := n.parse()
		if err != nil {
			return err
		}
		times, n.Next = e.Due(due, now, n.base(e), n.End, s.cfg.CatchUp)
		n.Last = due
		if len(times) > 0 {
			n.Last = times[len(times)-1]
		}
		n.Fired += uint64(len(times))
	}
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		fired = 0
		is, _, err := tx.Get(schedulesBucket, name)
		if err != nil {
			return err
		}
		if !current || !bytes.Equal(is, was) {
			// Another server was first, or it was changed: then it has a timer
			// of its own, unless it is the same.
			var changed Schedule
			if is != nil && json.Unmarshal(is, &changed) == nil && changed.Next.Equal(due) && !changed.Disabled {
				return fmt.Errorf("schedule %s was changed while it was due", name)
			}
			return s.cfg.Timers.Set(tx, Kind, name, due, time.Time{})
		}
		for _, at := range times {
			if err := s.deliver(tx, &n, at, now); err != nil {
				return err
			}
		}
		fired = len(times)
		if err := s.cfg.Timers.Set(tx, Kind, name, due, n.Next); err != nil {
			return err
		}
		if n.Next.IsZero() && n.Delete {
			return tx.Delete(schedulesBucket, name)
		}
		return put(tx, schedulesBucket, name, &n)
	})
	if err != nil {
		return err
	}
	if fired > 0 {
		s.fired.Add(uint64(fired))
		s.cfg.Queue.Wake()
	} else if current {
		s.missed.Add(1)
		s.cfg.Log.Warn("a schedule was due while no server ran, and is not made up for", "schedule", n.ARN(), "due", due)
	}
	return nil
}

// deliver puts what a schedule has for its target at a time into the queue.
func (s *Schedules) deliver(tx store.Tx, n *Schedule, at, now time.Time) error {
	id := uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "%s/%d", n.ARN(), at.UnixMilli())).String()
	d := delivery.Delivery{
		ID: id, Account: n.Account, Origin: n.ARN(), Target: n.Target.ARN, GroupID: n.Target.GroupID, Policy: n.Target.Retry,
		Caller: hearth.Identity{Account: n.Account, ARN: session(n.Target.Role, id), UserID: "AROA:" + id},
		Letter: map[string]string{
			"SCHEDULE_ARN": n.ARN(), "SCHEDULED_TIME": at.UTC().Format(time.RFC3339), "EXECUTION_ID": id,
		},
		Payload: n.payload(at, now, id),
	}
	if n.Flexible > 0 {
		// Of what is late no more than is left of the window.
		if until := at.Add(n.Flexible); until.After(now) {
			d.Due = now.Add(rand.N(until.Sub(now)))
		}
	}
	return s.cfg.Queue.Put(tx, d, now)
}

// session is the ARN of who has taken a role on.
func session(role, name string) string {
	account, path, _ := strings.Cut(strings.TrimPrefix(role, "arn:aws:iam::"), ":role/")
	return "arn:aws:sts::" + account + ":assumed-role/" + path[strings.LastIndexByte(path, '/')+1:] + "/" + name
}

// payload is what the target gets.
func (n *Schedule) payload(at, now time.Time, id string) []byte {
	detail := "{}"
	if n.Target.Input != "" {
		// What stands in them needs no escapes in JSON.
		input := strings.NewReplacer(
			"<aws.scheduler.schedule-arn>", n.ARN(), "<aws.scheduler.scheduled-time>", at.UTC().Format(time.RFC3339),
			"<aws.scheduler.execution-id>", id, "<aws.scheduler.attempt-number>", "1",
		).Replace(n.Target.Input)
		if n.Target.Bus == nil {
			return []byte(input)
		}
		detail = input
	}
	event := struct {
		Version    string   `json:"version"`
		ID         string   `json:"id"`
		DetailType string   `json:"detail-type"`
		Source     string   `json:"source"`
		Account    string   `json:"account"`
		Time       string   `json:"time"`
		Region     string   `json:"region"`
		Resources  []string `json:"resources"`
		Detail     any      `json:"detail"`
	}{"0", id, "Scheduled Event", "aws.scheduler", string(n.Account), at.UTC().Format(time.RFC3339), n.Region, []string{n.ARN()}, detail}
	if b := n.Target.Bus; b != nil {
		event.Source, event.DetailType, event.Detail = b.Source, b.DetailType, json.RawMessage(detail)
	}
	b, err := json.Marshal(event)
	if err != nil {
		panic(err) // strings, and a detail that was checked
	}
	return b
}

// Upcoming returns the next times of a schedule, at most n.
func (s *Schedule) Upcoming(n int) (times []time.Time) {
	e, err := s.parse()
	if err != nil {
		return nil
	}
	for t, ok := s.Next, !s.Next.IsZero(); ok && len(times) < n && (s.End.IsZero() || !t.After(s.End)); t, ok = e.Next(t, s.base(e)) {
		times = append(times, t)
	}
	return times
}
