package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/delivery"
	"github.com/hearth-faas/hearth/schedule"
	"github.com/hearth-faas/hearth/store"
)

// maxHops bounds through how many buses an event goes: rules that send events
// round in a circle must not do so for ever.
const maxHops = 10

// Deliver implements delivery.Target for event buses: the payload is an event,
// which arrives exactly once.
func (b *Buses) Deliver(ctx context.Context, d *delivery.Delivery, settle func(store.Tx) error) (bool, error) {
	if d.Hops >= maxHops {
		return false, invalid("the event has gone through %d event buses: do their rules send it round in a circle?", maxHops)
	}
	name, err := b.NameOf(d.Account, d.Target)
	if err != nil {
		return false, err
	}
	now := b.now()
	for {
		var set *ruleSet
		err := b.cfg.Store.View(ctx, func(r store.Reader) error {
			set, err = b.rules(r, d.Account, name)
			return err
		})
		if err != nil {
			return false, stored("Deliver", err)
		}
		ds, err := b.matches(set, d.Payload, d.Hops+1, now)
		if err != nil {
			return false, invalid("%s", err)
		}
		err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
			if err := settle(tx); err != nil {
				return err
			}
			if err := b.hold(tx, d.Account, name, set); err != nil {
				return err
			}
			for _, d := range ds {
				if err := b.cfg.Queue.Put(tx, d, now); err != nil {
					return err
				}
			}
			return nil
		})
		if errors.Is(err, errChanged) {
			continue
		}
		if err == nil {
			b.show(d.Account, name, d.Payload)
			b.put.Add(1)
			b.matched.Add(uint64(len(ds)))
			b.cfg.Queue.Wake()
		}
		return err == nil, err
	}
}

// Send implements async.Sender for destinations that are event buses: body is
// the invocation record, which becomes the event's detail.
func (b *Buses) Send(ctx context.Context, arn string, body []byte, _ map[string]string) error {
	var record struct {
		RequestContext struct {
			FunctionARN string `json:"functionArn"`
			Condition   string `json:"condition"`
		} `json:"requestContext"`
	}
	if err := json.Unmarshal(body, &record); err != nil {
		return invalid("what is for the event bus %s is no invocation record: %s", arn, err)
	}
	m := targetARN.FindString(arn)
	if m == "" {
		return invalid("%s is no event bus", arn)
	}
	account := hearth.Account(bytes.Split([]byte(arn), []byte(":"))[4])
	outcome := "Failure"
	if record.RequestContext.Condition == "Success" {
		outcome = "Success"
	}
	now := b.now()
	event, err := json.Marshal(Event{
		Version: "0", ID: uuid.NewString(), DetailType: "Lambda Function Invocation Result - " + outcome, Source: "lambda", Account: account,
		Time: now.Format("2006-01-02T15:04:05Z"), Region: b.cfg.Region, Resources: []string{arn, record.RequestContext.FunctionARN}, Detail: body,
	})
	if err != nil {
		return err
	}
	name, err := b.NameOf(account, arn)
	if err != nil {
		return err
	}
	for {
		missing, n, err := b.accept(ctx, account, []incoming{{bus: name, event: event}}, now)
		switch {
		case errors.Is(err, errChanged):
			continue
		case err != nil:
			return stored("Send", err)
		case len(missing) > 0:
			return noBus(name)
		}
		b.show(account, name, event)
		b.put.Add(1)
		b.matched.Add(uint64(n))
		b.cfg.Queue.Wake()
		return nil
	}
}

// fire is the Fire of rules that have a schedule.
func (b *Buses) fire(ctx context.Context, name string, due time.Time) error {
	now := b.now()
	fired := 0
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		fired = 0
		r, err := get[Rule](tx, rulesBucket, name)
		if err != nil {
			return err
		}
		if r == nil || !r.Next.Equal(due) || !r.Enabled() {
			return b.cfg.Timers.Set(tx, Kind, name, due, time.Time{}) // it was changed, or another server was first
		}
		e, err := schedule.Parse(r.Schedule, nil)
		if err != nil {
			return err
		}
		bus, err := b.busOf(tx, r.Account, r.Bus)
		if err != nil {
			return err
		}
		times, next := e.Due(due, now, r.base(e), time.Time{}, b.cfg.CatchUp)
		for _, at := range times {
			event, err := json.Marshal(Event{
				Version: "0", ID: uuid.NewSHA1(uuid.NameSpaceURL, []byte(r.ARN()+at.UTC().Format(time.RFC3339))).String(), DetailType: "Scheduled Event", Source: "aws.events",
				Account: r.Account, Time: at.UTC().Format("2006-01-02T15:04:05Z"), Region: r.Region, Resources: []string{r.ARN()}, Detail: json.RawMessage("{}"),
			})
			if err != nil {
				return err
			}
			ds, err := b.deliveries(r, bus, event, 0, now)
			if err != nil {
				return err
			}
			for _, d := range ds {
				if err := b.cfg.Queue.Put(tx, d, now); err != nil {
					return err
				}
			}
		}
		fired = len(times)
		r.Next = next
		if err := put(tx, rulesBucket, name, r); err != nil {
			return err
		}
		return b.cfg.Timers.Set(tx, Kind, name, due, next)
	})
	if err == nil && fired > 0 {
		b.fired.Add(uint64(fired))
		b.cfg.Queue.Wake()
	}
	return err
}
