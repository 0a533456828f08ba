package wire_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/awsjson"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/delivery"
	"github.com/hearth-faas/hearth/schedule"
	"github.com/hearth-faas/hearth/schedule/wire"
	"github.com/hearth-faas/hearth/store/storetest"
)

// Requests follow one another, as a client sends them.
func TestTheServiceAnswersAsItsProtocolHasIt(t *testing.T) {
	s, c, log := &storetest.Memory{}, clock.NewFake(time.Unix(1700000000, 0)), slog.New(slog.DiscardHandler)
	h := wire.New(schedule.New(schedule.Config{
		Store: s, Clock: c, Region: "us-east-1", Log: log,
		Timers: schedule.NewTimers(schedule.TimersConfig{Store: s, Clock: c, Log: log}),
		Queue:  delivery.New(delivery.Config{Store: s, Clock: c, Log: log}),
	}))
	const (
		target = `"Target":{"Arn":"arn:aws:lambda:us-east-1:111111111111:function:f","RoleArn":"arn:aws:iam::111111111111:role/r"}`
		whole  = `{"ScheduleExpression":"rate(1 hour)","FlexibleTimeWindow":{"Mode":"OFF"},` + target + `}`
	)
	for _, x := range []struct {
		request, body string
		status        int
		kind, want    string
	}{
		{"POST /schedules/s", whole, 200, "", `{"ScheduleArn":"arn:aws:scheduler:us-east-1:111111111111:schedule/default/s"}`},
		{"POST /schedules/s", whole, 409, "ConflictException", `{"Message":"Schedule s already exists."}`},
		{"POST /schedules/a%20b", whole, 400, "ValidationException", `constraint`},
		{"POST /schedules/x", `[]`, 400, "ValidationException", `can't be read`},
		{"POST /schedules/x", `{"ScheduleExpression":"rate(1 hour)",` + target + `}`, 400, "ValidationException", `FlexibleTimeWindow is required`},
		{"POST /schedules/x", strings.Replace(whole, `"OFF"`, `"FLEXIBLE"`, 1), 400, "ValidationException", `MaximumWindowInMinutes`},
		{"POST /schedules/x", strings.Replace(whole, `{"Arn"`, `{"EcsParameters":{},"Arn"`, 1), 400, "ValidationException", `EcsParameters`},
		{"POST /schedules/x", strings.Replace(whole, `{"Sch`, `{"State":"ON","Sch`, 1), 400, "ValidationException", `State must be`},
		{"GET /schedules/s", ``, 200, "", `"FlexibleTimeWindow":{"Mode":"OFF"},"State":"ENABLED","ActionAfterCompletion":"NONE","CreationDate":1700000000,`},
		{"GET /schedules/none", ``, 404, "ResourceNotFoundException", `Schedule none does not exist.`},
		{"GET /schedules", ``, 200, "", `"Name":"s","State":"ENABLED"`},
		{"GET /schedules?MaxResults=0", ``, 400, "ValidationException", `MaxResults`},
		{"GET /schedules?NextToken=!", ``, 400, "ValidationException", `NextToken`},
		{"GET /schedules?State=DISABLED", ``, 200, "", `{"Schedules":[]}`},
		{"DELETE /schedules/s", ``, 200, "", `{}`},
		{"POST /schedule-groups/g", `{"Tags":[{"Key":"a","Value":"b"}]}`, 200, "", `schedule-group/g`},
		{"GET /tags/arn:aws:scheduler:us-east-1:111111111111:schedule-group%2Fg", ``, 200, "", `{"Tags":[{"Key":"a","Value":"b"}]}`},
		{"GET /tags/arn:aws:scheduler:us-east-1:222222222222:schedule-group%2Fg", ``, 400, "ValidationException", `ResourceArn`},
		{"GET /schedule-groups", ``, 200, "", `"Name":"default","State":"ACTIVE"`},
		{"DELETE /schedule-groups/default", ``, 400, "ValidationException", `can't be deleted`},
		{"PATCH /schedules/s", ``, 404, "UnknownOperationException", `no operation PATCH`},
		{"GET /pipes", ``, 404, "UnknownOperationException", `no operation`},
	} {
		method, path, _ := strings.Cut(x.request, " ")
		r := httptest.NewRequest(method, path, http.NoBody)
		w := httptest.NewRecorder()
		err := h.Serve(w, &awsjson.Request{Caller: hearth.Identity{Account: "111111111111"}, HTTP: r, Body: []byte(x.body)})
		got, rerr := io.ReadAll(w.Body)
		if rerr != nil {
			t.Fatal(rerr)
		}
		if w.Code != x.status || w.Header().Get("X-Amzn-ErrorType") != x.kind || !strings.Contains(string(got), x.want) || (err == nil) != (x.status == 200) {
			t.Errorf("%s %s: %d %s %s", x.request, x.body, w.Code, w.Header().Get("X-Amzn-ErrorType"), got)
		}
	}
}
