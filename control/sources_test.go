package control

import (
	"context"

	"github.com/hearth-faas/hearth"
)

// sourceParts are Sources.
type sourceParts struct{ *parts }

var aSource = EventSource{Name: "f", ARN: "arn:aws:hearth:us-east-1:000000000000:source/f", URL: "redis://h", Kind: "Redis", Secret: true, Modified: noon}

func (p sourceParts) List(context.Context, hearth.Account) ([]EventSource, error) {
	return []EventSource{aSource}, p.err
}

func (p sourceParts) Add(context.Context, hearth.Account, string, string, *string) (EventSource, error) {
	s := aSource
	s.Token = "t"
	return s, p.err
}

func (p sourceParts) Remove(context.Context, hearth.Account, string) error { return p.err }

func (p sourceParts) Notify(context.Context, hearth.Account, string, string, []byte) error {
	return p.err
}
