package server

import (
	"context"
	"errors"
	"maps"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/access"
	"github.com/hearth-faas/hearth/async"
	"github.com/hearth-faas/hearth/bus"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/delivery"
	"github.com/hearth-faas/hearth/schedule"
	"github.com/hearth-faas/hearth/sqs"
	"github.com/hearth-faas/hearth/store"
)

// openEvents opens the event buses, the schedules and what delivers for both.
func (s *Server) openEvents(context.Context) error {
	targets := map[string]delivery.Target{"lambda": functionTarget{s}, "sqs": queueTarget{s.queues}}
	s.deliveries = delivery.New(delivery.Config{
		Store: s.records, Clock: s.clock, Targets: targets, Stopped: s.accounts.Stopped, Recorder: s.decisions, Log: s.log,
	})
	s.timers = schedule.NewTimers(schedule.TimersConfig{Store: s.records, Clock: s.clock, Stopped: s.accounts.Stopped, Log: s.log})
	role := func(service string) func(hearth.Account, string, string) error {
		return func(account hearth.Account, role, of string) error {
			return s.roles.PassToService(account, role, service, of)
		}
	}
	s.buses = bus.New(bus.Config{
		Store: s.records, Clock: s.clock, Region: s.cfg.Region, Timers: s.timers, Queue: s.deliveries,
		CatchUp: s.cfg.CatchUp, Role: role("events.amazonaws.com"), Log: s.log,
	})
	targets["events"] = s.buses
	s.schedules = schedule.New(schedule.Config{
		Store: s.records, Clock: s.clock, Region: s.cfg.Region, Timers: s.timers, Queue: s.deliveries,
		CatchUp: s.cfg.CatchUp, Role: role("scheduler.amazonaws.com"), Log: s.log,
	})
	s.metrics.MustRegister(busMetrics{s})
	return nil
}

// functionTarget hands deliveries to functions as events, as anybody does who
// invokes them asynchronously. What a rule has is judged as the service's, by
// the function's policy; what a schedule has as its role's.
type functionTarget struct{ s *Server }

// Deliver implements delivery.Target: the event is accepted in the transaction
// that settles the delivery.
func (f functionTarget) Deliver(ctx context.Context, d *delivery.Delivery, settle func(store.Tx) error) (settled bool, _ error) {
	parts := strings.Split(d.Target, ":")
	if len(parts) < 7 {
		return false, hearth.Errorf(hearth.InvalidParameter, "%s is no function", d.Target)
	}
	inv := &hearth.Invocation{
		Caller: d.Caller, Account: hearth.Account(parts[4]), Name: parts[6], Payload: d.Payload, Async: true,
	}
	if len(parts) > 7 {
		inv.Qualifier = parts[7]
	}
	if d.Caller.Service != "" {
		inv.Source = &hearth.Source{ARN: d.Origin, Account: d.Account}
	}
	inv.Timeline.Begin(f.s.clock.Now())
	_, err := f.s.frontend.Invoke(async.Together(access.Arrived(ctx, access.Inside), func(tx store.Tx) error {
		settled = true
		return settle(tx)
	}), inv)
	f.s.frontend.Done(inv)
	if errors.Is(err, delivery.ErrLost) {
		return false, delivery.ErrLost
	}
	return settled, err
}

// queueTarget sends deliveries to queues, as far as the queue's policy lets
// who sends them.
type queueTarget struct{ queues *sqs.Service }

// Deliver implements delivery.Target.
func (q queueTarget) Deliver(ctx context.Context, d *delivery.Delivery, _ func(store.Tx) error) (bool, error) {
	parts := strings.Split(d.Target, ":")
	if len(parts) != 6 {
		return false, hearth.Errorf(hearth.InvalidParameter, "%s is no queue", d.Target)
	}
	err := q.queues.Allowed(access.Arrived(ctx, access.Inside), d.Caller, "SendMessage", hearth.Account(parts[4]), parts[5], map[string][]string{
		"aws:sourcearn": {d.Origin}, "aws:sourceaccount": {string(d.Account)},
	})
	if err != nil {
		return false, err
	}
	attributes := map[string]string{}
	if d.Dead {
		maps.Copy(attributes, d.Letter)
	}
	if strings.HasSuffix(d.Target, ".fifo") {
		// The id makes of what is sent twice one message.
		attributes["MessageGroupId"], attributes["MessageDeduplicationId"] = d.GroupID, d.ID
	}
	return false, q.queues.Send(ctx, d.Target, d.Payload, attributes)
}

// busEvents is the control API's source of what comes to buses.
type busEvents struct{ buses *bus.Buses }

// Follow implements control.BusEvents.
func (b busEvents) Follow(ctx context.Context, account hearth.Account, name string, emit func(control.BusLine) error) error {
	name, err := b.buses.NameOf(account, name)
	if err != nil {
		return err
	}
	w := b.buses.Watch(account, name)
	defer w.Stop()
	if err := emit(control.BusLine{}); err != nil {
		return err
	}
	for {
		select {
		case e := <-w.Events:
			if n := w.Missed(); n > 0 {
				if err := emit(control.BusLine{Missed: n}); err != nil {
					return err
				}
			}
			if err := emit(control.BusLine{Event: e}); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// busMetrics tells Prometheus about buses, schedules and deliveries.
type busMetrics struct{ s *Server }

var (
	busEventsDesc  = desc("bus_events_total", "Events put on event buses.")
	busMatchedDesc = desc("bus_deliveries_total", "Deliveries that events on buses came to.")
	firedDesc      = desc("schedules_fired_total", "Times at which schedules and rules were fired.", "by")
	lateDesc       = desc("schedules_missed_total", "Schedules that were due while no server ran and were not made up for.")
	deliveredDesc  = desc("deliveries_total", "Deliveries of rules and schedules since the start, by what became of them.", "outcome")
	deliveringDesc = desc("deliveries_running", "Deliveries under way.")
)

// Describe implements prometheus.Collector.
func (b busMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{busEventsDesc, busMatchedDesc, firedDesc, lateDesc, deliveredDesc, deliveringDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (b busMetrics) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	put, matched, ruled := b.s.buses.Counts()
	fired, missed := b.s.schedules.Counts()
	count(busEventsDesc, put)
	count(busMatchedDesc, matched)
	count(firedDesc, fired, "schedule")
	count(firedDesc, ruled, "rule")
	count(lateDesc, missed)
	c := b.s.deliveries.Counts()
	for outcome, n := range map[string]uint64{"delivered": c.Delivered, "retried": c.Retried, "dead_letter": c.Dead, "parked": c.Parked} {
		count(deliveredDesc, n, outcome)
	}
	ch <- prometheus.MustNewConstMetric(deliveringDesc, prometheus.GaugeValue, float64(c.Running))
}
