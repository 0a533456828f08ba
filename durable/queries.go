package durable

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// Execution is an execution as it is shown.
type Execution struct {
	ARN         string
	Name        string
	FunctionARN string // with the version
	Version     string
	Status      Status
	Started     time.Time
	Ended       time.Time // zero while it runs

	Timeout       time.Duration
	RetentionDays int
	KMSKeyARN     string
	TraceID       string

	// Not of those that are listed.
	Input  *string
	Result *string
	Error  *Error
}

func (r *record) show() *Execution {
	arn := r.arn()
	function, _, _ := strings.Cut(arn, "/durable-execution/")
	return &Execution{
		ARN: arn, Name: r.Name, FunctionARN: function, Version: r.Version, Status: r.Status, Started: r.Started, Ended: r.Ended,
		Timeout: r.Timeout, RetentionDays: r.RetentionDays, KMSKeyARN: r.KMSKeyARN, TraceID: r.TraceID,
	}
}

// Get shows an execution. Errors: ResourceNotFound.
func (e *Executions) Get(ctx context.Context, a ARN) (*Execution, error) {
	var rec *record
	var root *Operation
	k := key(a.Account, a.Function, a.ID)
	err := e.cfg.Store.View(ctx, func(r store.Reader) (err error) {
		if rec, err = get[record](r, bucketExecutions, k); err != nil || rec == nil {
			return err
		}
		root, err = get[Operation](r, bucketOperations, numbered(k, 0))
		return err
	})
	if err != nil {
		return nil, internal("durable.Get", err)
	}
	if rec == nil || rec.Name != a.Name || rec.Version != a.Version || rec.Region != a.Region || rec.expired(e.cfg.Clock.Now()) {
		return nil, notFound()
	}
	x := rec.show()
	x.Input, x.Result, x.Error = root.Input, root.Result, root.Error
	return x, nil
}

// List asks for executions of a function.
type List struct {
	Account  hearth.Account
	Function string
	Version  string   // "" is any
	Name     string   // "" is any
	Statuses []Status // empty is any
	After    time.Time
	Before   time.Time // zero is never, both exclusive
	Oldest   bool      // the oldest first; else the newest
	Marker   string
	Max      int // 0 is 100, at most 1000
}

func (q *List) takes(r *record, now time.Time) bool {
	return !r.expired(now) && (q.Version == "" || r.Version == q.Version) && (q.Name == "" || r.Name == q.Name) &&
		(len(q.Statuses) == 0 || slices.Contains(q.Statuses, r.Status)) &&
		(q.After.IsZero() || r.Started.After(q.After)) && (q.Before.IsZero() || r.Started.Before(q.Before))
}

// List shows executions without their data, by pages; next is "" after the
// last. Errors: InvalidParameterValue for a marker that is none.
func (e *Executions) List(ctx context.Context, q List) (all []*Execution, next string, err error) {
	max := pageSize(q.Max)
	prefix := string(q.Account) + "/" + q.Function + "/"
	after, err := base64.StdEncoding.DecodeString(q.Marker)
	if err != nil || q.Marker != "" && !strings.HasPrefix(string(after), prefix) {
		return nil, "", errMarker()
	}
	from := string(after)
	if q.Oldest {
		from = "" // the store reads forwards, which is from the newest
	}
	now := e.cfg.Clock.Now()
	var found []*record
	err = e.cfg.Store.View(ctx, func(r store.Reader) error {
		found = nil
		for item, err := range r.Scan(bucketExecutions, prefix, from) {
			if err != nil {
				return err
			}
			if q.Oldest && q.Marker != "" && item.Key >= string(after) {
				break
			}
			rec, err := decode[record](bucketExecutions, item.Key, item.Value)
			if err != nil {
				return err
			}
			if !q.takes(rec, now) {
				continue
			}
			if found = append(found, rec); len(found) > max {
				if !q.Oldest {
					break
				}
				found = found[1:] // only the oldest matter, and whether there are more
				next = "more"
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", internal("durable.List", err)
	}
	if q.Oldest {
		slices.Reverse(found)
	} else if len(found) > max {
		found, next = found[:max], "more"
	}
	for _, r := range found {
		all = append(all, r.show())
	}
	if next != "" {
		next = base64.StdEncoding.EncodeToString([]byte(found[len(found)-1].key()))
	}
	return all, next, nil
}

func errMarker() error { return invalid("Invalid Marker") }

// marker names a place in a numbered list: what comes after it.
func marker(n int) string { return base64.StdEncoding.EncodeToString([]byte(strconv.Itoa(n))) }

func parseMarker(s string) (n int, err error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err == nil {
		n, err = strconv.Atoi(string(b))
	}
	if err != nil || n < -1 {
		return 0, errMarker()
	}
	return n, nil
}

func pageSize(asked int) int {
	if asked <= 0 {
		return 100
	}
	return min(asked, 1000)
}

// maxPage bounds the payloads of a page of history or of state, in bytes.
const maxPage = 5 << 20

// History shows what happened in an execution, by pages; next is "" after the
// last. Errors: ResourceNotFound, InvalidParameterValue for a marker that is
// none.
func (e *Executions) History(ctx context.Context, a ARN, newest bool, after string, asked int) (events []*Event, next string, err error) {
	if _, err := e.Get(ctx, a); err != nil {
		return nil, "", err
	}
	from := 0
	if after != "" {
		if from, err = parseMarker(after); err != nil {
			return nil, "", err
		}
	}
	max, k := pageSize(asked), key(a.Account, a.Function, a.ID)
	err = e.cfg.Store.View(ctx, func(r store.Reader) error {
		events, next = nil, ""
		rec, err := get[record](r, bucketExecutions, k)
		if err != nil || rec == nil {
			return err
		}
		size := 0
		first, step := from+1, 1
		switch {
		case newest && after == "":
			first, step = rec.Events, -1
		case newest:
			first, step = from-1, -1
		}
		for n := first; n >= 1 && n <= rec.Events; n += step {
			if len(events) == max || size > maxPage {
				next = marker(n - step)
				break
			}
			b, ok, err := r.Get(bucketEvents, numbered(k, n))
			if err != nil || !ok {
				return err
			}
			ev, err := decode[Event](bucketEvents, k, b)
			if err != nil {
				return err
			}
			size += len(b)
			events = append(events, ev)
		}
		return nil
	})
	if err != nil {
		return nil, "", internal("durable.History", err)
	}
	return events, next, nil
}

// State tells the function, that has the token, of its operations, by pages;
// next is "" after the last. Errors: InvalidParameterValue.
func (e *Executions) State(ctx context.Context, a ARN, tok, after string, asked int) (page []*Operation, next string, err error) {
	t, ok := parseToken(tok)
	l := e.live(key(a.Account, a.Function, a.ID), false)
	if !ok || l == nil {
		return nil, "", errToken()
	}
	from := -1
	if after != "" {
		if from, err = parseMarker(after); err != nil {
			return nil, "", err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.x // it is read while an invocation is under way
	if x == nil || x.Status != Running || x.Invocation == nil || t != x.token() {
		return nil, "", errToken()
	}
	size := 0
	for _, o := range x.replayed() {
		if o.Sequence <= from {
			continue
		}
		if len(page) == pageSize(asked) || size > maxPage {
			return page, marker(page[len(page)-1].Sequence), nil
		}
		size += len(deref(o.Input)) + len(deref(o.Result)) + o.Error.size()
		page = append(page, o)
	}
	return page, "", nil
}
