package tags_test

import (
	"maps"
	"strconv"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/tags"
)

func TestTagsAreSetAndRemovedAndWhatWasGivenStaysAsItIs(t *testing.T) {
	was := map[string]string{"a": "1", "b": "2"}
	before := maps.Clone(was)
	got, err := tags.With(was, map[string]string{"b": "3", "c": "4"})
	if err != nil || !maps.Equal(got, map[string]string{"a": "1", "b": "3", "c": "4"}) {
		t.Errorf("with two more: %v, %v", got, err)
	}
	if got := tags.Without(got, []string{"a", "z"}); !maps.Equal(got, map[string]string{"b": "3", "c": "4"}) {
		t.Errorf("without one: %v", got)
	}
	if !maps.Equal(was, before) {
		t.Errorf("what was given became %v", was)
	}
	if got, err := tags.With(nil, nil); err != nil || got == nil || tags.Without(nil, nil) == nil {
		t.Errorf("of none: %v, %v", got, err)
	}
}

func TestThereAreFiftyTagsAtMost(t *testing.T) {
	many := map[string]string{}
	for i := range tags.Limit {
		many[strconv.Itoa(i)] = ""
	}
	if err := tags.Check(many); err != nil {
		t.Errorf("fifty: %v", err)
	}
	if _, err := tags.With(many, map[string]string{"0": "again"}); err != nil {
		t.Errorf("fifty, of which one is set again: %v", err)
	}
	_, err := tags.With(many, map[string]string{"more": ""})
	if e, ok := err.(*hearth.Error); !ok || e.Kind != hearth.InvalidParameter || e.Message != "Number of tags exceeds resource tag limit." {
		t.Errorf("one more: %v", err)
	}
}
