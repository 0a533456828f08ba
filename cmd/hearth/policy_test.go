package main

import "testing"

func TestPoliciesAreSetShownAndTakenBack(t *testing.T) {
	f := newFake(t)
	f.hearth("policy").want(t, 0, "")
	f.hearth("policy", "set", "sizing.mode=off").want(t, 0, "the account's policy is changed")
	f.hearth("policy", "set", "my-fn", "sizing.mode=auto", "update.mode=wait").want(t, 0, "my-fn's policy is changed")
	f.hearth("policy", "my-fn").want(t, 0, "sizing.mode  auto   my-fn\nupdate.mode  wait   my-fn")
	f.hearth("policy", "--json", "other").want(t, 0, `"mode": "off"`)
	f.hearth("policy", "clear", "my-fn", "sizing").want(t, 0, "is changed")
	f.hearth("policy", "my-fn").want(t, 0, "sizing.mode  off    the account\nupdate.mode  wait   my-fn")
	f.hearth("policy", "clear").want(t, 0, "is changed")
	f.hearth("policy", "set", "my-fn", "sizing.mode=huge").want(t, 2, "")
	f.hearth("policy", "set", "my-fn", "sizing.colour=red").want(t, 2, "")
	f.hearth("policy", "set", "my-fn", "mood.mode=on").want(t, 2, "")
	f.hearth("policy", "set", "my-fn").want(t, 2, "")
}
