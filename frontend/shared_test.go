package frontend_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/frontend"
)

// gate lets runs in, or not, and counts them.
type gate struct {
	err            error
	entered, ended int
}

func (g *gate) Enter(context.Context, *hearth.Invocation) error {
	if g.err == nil {
		g.entered++
	}
	return g.err
}

func (g *gate) Leave(*hearth.Invocation) { g.ended++ }

func sharedFrontend(t *testing.T, g frontend.Shares, m manager, r *recorder) *frontend.Frontend {
	fn := newFunction()
	fn.Shared = &hearth.Shared{Owner: "111122223333", OwnerFunction: "archive", OwnerVersion: "7", Offer: "o"}
	fn.Package.SHA256 = "feed"
	return newFrontend(t, m, func(c *frontend.Config) { c.Functions, c.Shares, c.Recorder = functions{fn}, g, r })
}

func TestASharedRunIsLetInOnceAndItsOwnersAreRecorded(t *testing.T) {
	g, r := &gate{}, &recorder{}
	f := sharedFrontend(t, g, echo, r)
	inv := request()
	if _, err := f.Invoke(t.Context(), inv); err != nil {
		t.Fatal(err)
	}
	f.Done(inv)
	if g.entered != 1 || g.ended != 1 || len(r.all) != 1 || r.all[0].Owner != "111122223333" || r.all[0].Account != hearth.DefaultAccount {
		t.Errorf("%+v, %+v", g, r.all)
	}
}

func TestARefusedSharedRunDoesNotReachTheManager(t *testing.T) {
	g := &gate{err: hearth.Errorf(hearth.AccessDenied, "withdrawn")}
	f := sharedFrontend(t, g, func(context.Context, *hearth.Invocation) (*hearth.Result, error) { panic("it runs") }, nil)
	if _, err := f.Invoke(t.Context(), request()); hearth.KindOf(err) != hearth.AccessDenied || g.ended != 0 {
		t.Errorf("%v, %+v", err, g)
	}
	if _, err := sharedFrontend(t, nil, echo, nil).Invoke(t.Context(), request()); err == nil {
		t.Error("without anybody who lets it in it runs")
	}
}

// taken are the names that an owner has taken back.
type taken struct{ hearth.Functions }

func (taken) Resolve(context.Context, hearth.Account, string, string) (*hearth.Function, error) {
	return nil, hearth.Errorf(hearth.AccessDenied, "withdrawn")
}

func TestADecisionSaysThatANameWasTakenBackAndBlamesNoPolicy(t *testing.T) {
	r := &recorder{}
	f := newFrontend(t, echo, func(c *frontend.Config) { c.Functions, c.Recorder = taken{}, r })
	inv := request()
	if _, err := f.Invoke(t.Context(), inv); hearth.KindOf(err) != hearth.AccessDenied {
		t.Fatal(err)
	}
	f.Done(inv)
	if len(r.all) != 1 || r.all[0].Kind != hearth.DecisionRefuse || !strings.Contains(r.all[0].Why, "owner") {
		t.Errorf("%+v", r.all)
	}
}

func TestWhatCouldTellOfSharedCodeIsWithheld(t *testing.T) {
	g, r := &gate{}, &recorder{}
	fail := func(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
		return nil, hearth.Errorf(hearth.InvalidImage, "no /srv/secret in the image of registry.example/secret: %w", errors.New("secret"))
	}
	_, err := sharedFrontend(t, g, fail, nil).Invoke(t.Context(), request())
	var told *hearth.Error
	if !errors.As(err, &told) || told.Kind != hearth.InvalidImage || strings.Contains(told.Message, "secret") || g.ended != 1 {
		t.Errorf("%v", err)
	}
	// Its owner is told, by the name that it has there.
	reasoned := func(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
		return nil, hearth.Errorf(hearth.Service, "The code of %s is gone.", inv.Function.QualifiedARN())
	}
	failing, failed := sharedFrontend(t, g, reasoned, r), request()
	if _, err := failing.Invoke(t.Context(), failed); !errors.As(err, &told) || strings.Contains(told.Message, "gone") {
		t.Errorf("%v", err)
	}
	failing.Done(failed)
	if d := r.all[0]; d.Withheld != "The code of arn:aws:lambda:us-east-1:111122223333:function:archive:7 is gone." || d.OwnerFunction != "archive" || d.Terms != "offer o" || strings.Contains(d.Why, "gone") {
		t.Errorf("the owner is told %+v", d)
	}
	r.all = nil
	typed := func(_ context.Context, inv *hearth.Invocation) (*hearth.Result, error) {
		inv.Use.End = hearth.EndError
		inv.Placement = hearth.Placement{Path: hearth.PathReuse}
		return &hearth.Result{FunctionError: "Unhandled", Payload: []byte(`{"errorType":"MadeOfASecret"}`)}, nil
	}
	f := sharedFrontend(t, g, typed, r)
	inv := request()
	if _, err := f.Invoke(t.Context(), inv); err != nil {
		t.Fatal(err)
	}
	f.Done(inv)
	if r.all[0].Outcome != "error" {
		t.Errorf("the decision has the outcome %q", r.all[0].Outcome)
	}
	for _, change := range []func(*hearth.Invocation){
		func(i *hearth.Invocation) { i.RequireCode = "beef" }, func(i *hearth.Invocation) { i.RequireCode = hearth.NewestCode }, func(i *hearth.Invocation) { i.MemoryMiB = 1024 },
	} {
		inv := request()
		change(inv)
		if _, err := f.Invoke(t.Context(), inv); hearth.KindOf(err) != hearth.InvalidParameter || strings.Contains(err.Error(), "feed") {
			t.Errorf("%v", err)
		}
	}
}
