package main

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth/awsjson"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/delivery"
	"github.com/hearth-faas/hearth/schedule"
	schedulewire "github.com/hearth-faas/hearth/schedule/wire"
	"github.com/hearth-faas/hearth/store/storetest"
)

// newSchedules are the real schedules, which never fire.
func newSchedules() awsjson.Handler {
	s := &storetest.Memory{}
	log := slog.New(slog.DiscardHandler)
	return schedulewire.New(schedule.New(schedule.Config{
		Store: s, Clock: clock.System(), Region: testRegion, Log: log,
		Timers: schedule.NewTimers(schedule.TimersConfig{Store: s, Clock: clock.System(), Log: log}),
		Queue:  delivery.New(delivery.Config{Store: s, Clock: clock.System(), Log: log}),
	}))
}

func TestSchedulesAreAddedShownAndRemoved(t *testing.T) {
	f := newFake(t)
	f.hearth("schedule").want(t, 0, "", "There are no schedules")
	f.hearth("schedule", "add", "report:live", "cron(0 9 ? * MON-FRI 2199)", "--timezone", "Europe/Berlin").want(t, 0, "report added  next at 2199-01-01 09:00:00 CET")
	f.hearth("schedule", "add", "ping", "rate(5 minutes)", "--name", "p", "--input", `{"a":1}`).want(t, 0, "p added  next at 20")
	f.hearth("schedule", "add", "ping", "rate(5 minutes)", "--name", "p").want(t, 1, "", "already exists")
	f.hearth("schedule", "add", "ping", "rate(5 seconds)").want(t, 1, "", "none of minutes, hours and days")
	f.hearth("schedule", "add", "ping", "rate(1 hour)", "--input", "{").want(t, 2, "", "--input is no JSON")
	f.hearth("schedule").want(t, 0, "report    cron(0 9 ? * MON-FRI 2199)  report:live")
	var list []shownSchedule
	r := f.hearth("schedule", "--json")
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || len(list) != 2 || len(list[0].Next) != 3 || !strings.HasSuffix(list[1].Target, ":function:report:live") {
		t.Errorf("%v\n%s", err, r.out)
	}
	f.hearth("schedule", "rm", "p", "default/report").want(t, 0, "p is removed\ndefault/report is removed")
	f.hearth("schedule", "rm", "p").want(t, 1, "", "hearth schedule shows")
}

func TestTheEventsOfABusAreShown(t *testing.T) {
	f := newFake(t)
	f.hearth("events").want(t, 0, "default  Order  {\"n\":1}", "what comes to the event bus default", "2 events came faster")
	f.hearth("events", "b", "--json").want(t, 0, `{"source":"b","detail-type":"Order","detail":{"n":1}}`)
	f.hearth("events", "no").want(t, 1, "", "no such name")
}
