package main

import (
	"context"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
)

// Capacity implements control.Capacities.
func (f *fake) Capacity(context.Context, hearth.Account) (control.Capacity, error) {
	return control.Capacity{
		Subpools:  []control.Subpool{{Kind: hearth.CapacityFixed, CapacityMiB: 1024, MostMiB: 1024}, {Kind: hearth.CapacityVariable, CapacityMiB: 512, MostMiB: 2048, Price: 0.25, Cost: 1.5}},
		Feed:      &control.Feed{Source: "/prices.json", Known: true, Price: 0.25, Error: "it is written half"},
		Functions: []control.Spending{{Function: "my-fn", Kind: hearth.CapacityVariable, Invocations: 3, GiBSeconds: 1.5, Cost: 0.125}},
	}, nil
}

func TestCapacityIsShownWithItsPriceAndWhatItCost(t *testing.T) {
	f := newFake(t)
	got := f.hearth("capacity")
	for _, want := range []string{"feed /prices.json: too old", "it is written half", "variable", "2048", "0.25", "my-fn", "0.125"} {
		got.want(t, 0, want)
	}
	f.hearth("capacity", "--json").want(t, 0, `"gibSeconds": 1.5`)
}

func TestCapacityPoliciesAreCheckedBeforeTheyAreSent(t *testing.T) {
	f := newFake(t)
	f.hearth("policy", "set", "my-fn", "capacity.kind=spot").want(t, 2, "", `kind "spot" is none of fixed, variable`)
	f.hearth("policy", "set", "my-fn", "capacity.kind=variable", "capacity.maxPrice=0.5").want(t, 0, "is changed")
	f.hearth("policy", "my-fn").want(t, 0, "capacity.maxPrice")
	f.hearth("policy", "set", "my-fn", "capacity.dedicated=2").want(t, 1, "", "dedicated is of an account")
}
