package registry_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
)

// Many change, publish, resolve and delete the same few functions. Each update
// writes a greater number; once one is Successful no smaller one may be
// resolved, and nothing that is resolved is of two updates.
func TestHammer(t *testing.T) {
	prepared := sync.Map{} // generations
	w := newWorld(t, t.TempDir(), func(c *registry.Config) {
		c.Prepare = func(_ context.Context, f *hearth.Function) error {
			prepared.Store(f.Generation, true)
			if strings.HasSuffix(f.Description, "7") {
				return errors.New("sevens fail")
			}
			return nil
		}
	})
	stop := time.Now().Add(2 * time.Second)
	var wg sync.WaitGroup
	allowed := func(err error, kinds ...hearth.Kind) {
		t.Helper()
		for _, k := range kinds {
			if err == nil || hearth.KindOf(err) == k {
				return
			}
		}
		t.Errorf("the error is %v", err)
	}
	for _, name := range []string{"f", "g", "h"} {
		var least atomic.Int64 // what the last Successful update wrote
		w.create(name)
		wg.Go(func() { // the updater
			for i := 1; time.Now().Before(stop); i++ {
				n := strconv.Itoa(i)
				var err error
				if i%3 == 0 {
					_, err = w.UpdateCode(ctx, account, name, registry.UpdateCode{Zip: code(name + n), Publish: i%2 == 0})
				} else {
					_, err = w.UpdateConfiguration(ctx, account, name, registry.UpdateConfiguration{Description: &n, Env: map[string]string{"N": n}})
				}
				if allowed(err, hearth.Conflict); err != nil {
					continue
				}
				if f := w.settled(name); f.UpdateStatus == hearth.UpdateSuccessful && f.Env["N"] == n {
					least.Store(int64(i))
				}
			}
		})
		for range 2 {
			wg.Go(func() { // resolvers
				for time.Now().Before(stop) {
					floor := least.Load()
					f, err := w.Resolve(ctx, account, name, "")
					if err != nil {
						t.Error(err)
						continue
					}
					n, _ := strconv.ParseInt(f.Env["N"], 10, 64)
					if n < floor {
						t.Errorf("resolved %d after %d was Successful", n, floor)
					}
					if _, ok := prepared.Load(f.Generation); !ok {
						t.Errorf("resolved what was not prepared: %+v", f)
					}
					if n != 0 && f.Description != f.Env["N"] || strings.HasSuffix(f.Description, "7") {
						t.Errorf("resolved %q with %q", f.Description, f.Env["N"])
					}
				}
			})
		}
		wg.Go(func() { // the publisher
			for time.Now().Before(stop) {
				f, err := w.Publish(ctx, account, name, registry.Publish{})
				if allowed(err, hearth.Conflict); err == nil {
					allowed(w.Delete(ctx, account, name, f.Version), hearth.NotFound)
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() { // makers and removers of one name
			for time.Now().Before(stop) {
				_, err := w.Create(ctx, registry.Create{Function: function("x"), Zip: code("x"), Publish: true})
				allowed(err, hearth.Conflict)
				_, err = w.Resolve(ctx, account, "x", "1")
				allowed(err, hearth.Conflict, hearth.NotFound)
				allowed(w.Tag(ctx, account, "x", map[string]string{"a": "b"}), hearth.NotFound)
				_, _, err = w.List(ctx, account, "", 2, true)
				w.must(err)
				allowed(w.Delete(ctx, account, "x", ""), hearth.NotFound)
			}
		})
	}
	wg.Wait()
	before, _, err := w.List(ctx, account, "", 0, false)
	w.must(err)
	used := func() registry.Usage { u, err := w.Usage(ctx, account); w.must(err); return u }
	usage := used()
	w.reopen()
	defer func() { w.close() }()
	for _, f := range before {
		if g := w.got(w.Get(ctx, account, f.Name, "")); f.UpdateStatus != hearth.UpdateInProgress && g.RevisionID != f.RevisionID {
			t.Errorf("after a restart %+v\nis %+v", f, g)
		}
	}
	if got := used(); got != usage {
		t.Errorf("after a restart usage is %+v, was %+v", got, usage)
	}
}

const killDir = "HEARTH_TEST_KILL_DIR"

// TestMain is also the process that TestWhatWasAcknowledgedSurvivesAKill
// kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		changeUntilKilled(dir)
	}
	// Each run of the model syncs hundreds of files; -rapid.checks asks for
	// more of them.
	if err := flag.Set("rapid.checks", "30"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// child is the tester of a process without one.
type child struct{}

func (child) Helper()                       {}
func (child) Fatal(a ...any)                { fmt.Fprintln(os.Stderr, a...); os.Exit(1) }
func (child) Fatalf(f string, a ...any)     { fmt.Fprintf(os.Stderr, f+"\n", a...); os.Exit(1) }
func (child) Errorf(f string, a ...any)     { child{}.Fatalf(f, a...) }
func (child) said(what string, args ...any) { fmt.Println(append([]any{what}, args...)...) }

// changeUntilKilled makes, publishes, tags and deletes functions, and says so
// on stdout after each was acknowledged, and before each deletion.
func changeUntilKilled(dir string) {
	var c child
	w := newWorld(c, dir, nil)
	for i := range 4 {
		go func() {
			for n := 0; ; n++ {
				name := fmt.Sprintf("f-%d-%d-%d", os.Getpid(), i, n)
				f := w.got(w.Create(ctx, registry.Create{Function: function(name), Zip: code(fmt.Sprint(n % 7))}))
				c.said("created", name, f.Generation)
				w.settled(name)
				v := w.got(w.Publish(ctx, account, name, registry.Publish{}))
				c.said("published", name, v.Generation)
				f = w.got(w.UpdateCode(ctx, account, name, registry.UpdateCode{Zip: code("new")}))
				c.said("updated", name, f.Generation)
				w.must(w.Tag(ctx, account, name, map[string]string{"k": name}))
				c.said("tagged", name, 0)
				if n%3 == 0 {
					c.said("deleting", name, 0)
					w.must(w.Delete(ctx, account, name, ""))
					c.said("deleted", name, 0)
				}
			}
		}()
	}
	select {}
}

func TestWhatWasAcknowledgedSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	type said map[string]bool
	functions := map[string]said{}
	generations := map[string]bool{}
	for range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = []string{killDir + "=" + dir, "TMPDIR=" + os.TempDir()}
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			word := strings.Fields(lines.Text())
			if len(word) != 3 {
				t.Fatalf("it said %q", lines.Text())
			}
			if functions[word[1]] == nil {
				functions[word[1]] = said{}
			}
			functions[word[1]][word[0]] = true
			if word[2] != "0" && generations[word[2]] {
				t.Errorf("generation %s was given twice", word[2])
			}
			generations[word[2]] = true
			if n == 150 {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("it was not killed: %v", err)
		}
	}
	w := newWorld(t, dir, nil)
	defer func() { w.close() }()
	for name, s := range functions {
		_, err := w.Get(ctx, account, name, "")
		switch {
		case s["deleted"]:
			if hearth.KindOf(err) != hearth.NotFound {
				t.Errorf("%s was deleted: %v", name, err)
			}
			continue
		case s["deleting"] && err != nil:
			continue
		case err != nil:
			t.Errorf("%s %v: %v", name, s, err)
			continue
		}
		f := w.settled(name)
		if f.State != hearth.Active {
			t.Errorf("%s is %s", name, describe(f))
		}
		if _, err := w.Resolve(ctx, account, name, "1"); s["published"] && err != nil {
			t.Errorf("%s was published: %v", name, err)
		}
		if s["updated"] && f.Package.Size != int64(len(code("new"))) {
			t.Errorf("%s was updated, and its code has %d bytes", name, f.Package.Size)
		}
		if tags, err := w.Tags(ctx, account, name); s["tagged"] && tags["k"] != name || err != nil {
			t.Errorf("%s was tagged: %v %v", name, tags, err)
		}
		r, _, err := w.OpenPackage(ctx, f.Package.SHA256)
		if err != nil {
			t.Errorf("%s has no code: %v", name, err)
			continue
		}
		w.must(r.Close())
	}
	if len(functions) < 30 {
		t.Errorf("only %d functions", len(functions))
	}
}
