package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/async"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/internal/pgtest"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/postgres"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// asyncSize is that of an event's payload, and of what the floor writes.
const asyncSize = 1 << 10

// asyncEvents: the queue of asynchronous invocations over each store, from the
// acceptance of an event to the start of its function, in this process: what
// the API and the sandbox add is in the other rows. The floor is what the disk
// does: a kilobyte appended to a file and synced, one after another.
func asyncEvents(b *bench) (rows []row, err error) {
	for _, kind := range []struct {
		name string
		open func(dir string) (store.Store, func() error, error)
	}{{"SQLite", openSQLite}, {"PostgreSQL", openPostgres}} {
		dir := filepath.Join(b.dir, "events-"+kind.name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		r, err := asyncOver(b, kind.name, dir, kind.open)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind.name, err)
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

func openSQLite(dir string) (store.Store, func() error, error) {
	s, err := sqlite.Open(context.Background(), dir)
	return s, func() error { return nil }, err
}

// openPostgres starts a PostgreSQL of its own, which syncs as it does by
// default.
func openPostgres(string) (store.Store, func() error, error) {
	server, stop, err := pgtest.Open(pgtest.Options{})
	if err != nil {
		return nil, nil, err
	}
	s, err := postgres.Open(context.Background(), postgres.Config{URL: server.URL("postgres")})
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return s, stop, nil
}

// asyncStarted is the function: it tells when it is started, and ends at once.
type asyncStarted struct {
	mu sync.Mutex
	at map[string]chan time.Time // by payload
}

func (s *asyncStarted) Invoke(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
	now := time.Now()
	s.mu.Lock()
	ch := s.at[string(inv.Payload)]
	s.mu.Unlock()
	if ch != nil {
		ch <- now
	}
	return &hearth.Result{}, nil
}

func asyncOver(b *bench, kind, dir string, open func(string) (store.Store, func() error, error)) (_ []row, err error) {
	s, stop, err := open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close(), stop()) }()
	run := &asyncStarted{at: map[string]chan time.Time{}}
	q, err := async.Open(context.Background(), async.Config{
		Store: s, Clock: clock.System(), Region: "us-east-1", Run: run, Done: func(*hearth.Invocation) {}, Places: 500,
		Policy: func(hearth.Account, string, string) async.Policy { return async.DefaultPolicy },
		Log:    slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	q.Start()
	defer q.Stop(context.Background())
	payload := make([]byte, asyncSize)
	send := func(payload []byte) error {
		_, err := q.Invoke(context.Background(), &hearth.Invocation{
			Account: "000000000000", Name: "f", Payload: payload, Function: &hearth.Function{Version: hearth.Latest},
		})
		return err
	}
	settled := func() {
		for c := q.Counts(); c.Waiting+c.Running > 0; c = q.Counts() {
			time.Sleep(time.Millisecond)
		}
	}
	floor, err := os.OpenFile(filepath.Join(dir, "floor"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer floor.Close()
	synced := func() error {
		if _, err := floor.Write(payload); err != nil {
			return err
		}
		return syscall.Fdatasync(int(floor.Fd()))
	}

	ch := make(chan time.Time, 1)
	one := append([]byte("one"), payload[3:]...)
	run.at[string(one)] = ch
	var floors, starts times
	var rates []float64
	for range max(b.rounds/2, 3) {
		if floors, err = measure(floors, 200, synced); err != nil {
			return nil, err
		}
		for range 200 {
			began := time.Now()
			if err := send(one); err != nil {
				return nil, err
			}
			starts = append(starts, (<-ch).Sub(began))
		}
		settled()
		n, took, err := asyncFlood(2*time.Second, func() error { return send(payload) })
		if err != nil {
			return nil, err
		}
		began := time.Now()
		settled()
		rates = append(rates, float64(n)/(took+time.Since(began)).Seconds())
	}
	rate, perSync := medianOf(rates), 1/floors.median().Seconds()
	return []row{
		ratio("event, "+kind+", one at a time, until it starts", floors, starts, 6),
		{
			Name:  "events a second, " + kind + ", 64 clients, until they have ended",
			Floor: fmt.Sprintf("%.0f syncs/s", perSync), Hearth: fmt.Sprintf("%.0f/s", rate), Value: rate / perSync, Unit: "×", Aim: 1,
		},
	}, nil
}

// asyncFlood calls f from 64 goroutines for as long as told, and tells how often,
// and how long that took.
func asyncFlood(d time.Duration, f func() error) (int, time.Duration, error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	total, errs := 0, []error(nil)
	began := time.Now()
	for range 64 {
		wg.Go(func() {
			n, err := 0, error(nil)
			for ; err == nil && time.Since(began) < d; n++ {
				err = f()
			}
			mu.Lock()
			defer mu.Unlock()
			total += n
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return total, time.Since(began), errors.Join(errs...)
}
