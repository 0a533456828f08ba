package main

import (
	"context"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

// foretold are predictions of one trigger.
type foretold struct{ *fake }

func (foretold) Hint(_ context.Context, h control.Hint) (string, error) {
	if h.Function == "gone" {
		return "", hearth.Errorf(hearth.NotFound, "Function not found: gone")
	}
	return "h" + h.Until.Sub(h.At).String(), nil
}

func (foretold) Triggers(context.Context, hearth.Account) ([]control.Trigger, error) {
	return []control.Trigger{{Name: "open", Functions: []string{"my-fn"}, Created: time.Unix(0, 0), Learned: []string{"3.0 invocations of my-fn"}}}, nil
}

func (foretold) SetTrigger(_ context.Context, _ hearth.Account, t control.Trigger) (string, error) {
	if t.Run != "" {
		return "", nil
	}
	return "secret", nil
}

func (foretold) RemoveTrigger(_ context.Context, _ hearth.Account, name string) error {
	return known(name)
}
func (foretold) Fire(_ hearth.Account, name string) error        { return known(name) }
func (foretold) FireWith(_ hearth.Account, name, _ string) error { return known(name) }

func known(name string) error {
	if name == "open" {
		return nil
	}
	return hearth.Errorf(hearth.NotFound, "There is no trigger %s.", name)
}

func (foretold) Learned(_ context.Context, _ hearth.Account, function string) ([]control.Section, error) {
	switch function {
	case "my-fn":
	case "new":
		return nil, nil
	default:
		return nil, hearth.Errorf(hearth.NotFound, "Function not found: %s", function)
	}
	return []control.Section{{System: "calls", Says: []string{"90 % of its runs are followed by other", "and more"}}}, nil
}

func TestHintsAreTaken(t *testing.T) {
	f := newFake(t)
	f.hearth("hint", "my-fn", "--count", "3", "--in", "10m").want(t, 0, "3 of my-fn will be ready at ")
	f.hearth("hint", "my-fn", "--at", "2030-01-01T08:00:00Z", "--for", "5m", "--json").want(t, 0, `"id": "h5m0s"`)
	f.hearth("hint", "gone").want(t, 1, "")
	f.hearth("hint").want(t, 2, "")
	f.hearth("hint", "my-fn", "--trigger", "open").want(t, 2, "")
	f.hearth("hint", "my-fn", "--at", "noon").want(t, 2, "")
	f.hearth("hint", "my-fn", "--at", "2030-01-01T08:00:00Z", "--in", "1m").want(t, 2, "")
	f.hearth("hint", "--trigger", "open").want(t, 0, "open is heeded")
	f.hearth("hint", "--trigger", "other").want(t, 1, "")
}

func TestTriggersAreAddedListedAndRemoved(t *testing.T) {
	f := newFake(t)
	f.hearth("trigger", "add", "open", "--for", "my-fn").want(t, 0, "/_hearth/v1/trigger?account="+testAccount+"&name=open&token=secret")
	f.hearth("trigger", "add", "open", "--run", "x", "--for", "my-fn").want(t, 0, "open foretells my-fn")
	f.hearth("trigger", "add", "open").want(t, 2, "")
	f.hearth("trigger", "ls").want(t, 0, "open     a notice  my-fn  3.0 invocations of my-fn")
	f.hearth("trigger", "rm", "open").want(t, 0, "open is removed")
	f.hearth("trigger", "rm", "other").want(t, 1, "")
}

func TestAFunctionIsExplained(t *testing.T) {
	f := newFake(t)
	f.hearth("explain", "my-fn").want(t, 0, "calls    90 % of its runs are followed by other")
	f.hearth("explain", "my-fn", "--json").want(t, 0, `"system": "calls"`)
	f.hearth("explain", "new").want(t, 0, "new")
	f.hearth("explain", "other").want(t, 1, "")
}
