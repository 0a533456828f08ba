package control

import (
	"context"
	"testing"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

type keyParts struct{ *parts }

func (p keyParts) Status(context.Context) (KeyStatus, error) {
	return KeyStatus{ID: "0123456789abcdef", File: "/data/master.key", Inside: true, Resealing: true, Resealed: 2, Failing: "f", DataKeys: []DataKey{
		{Generation: 1, Records: map[string]int{"access keys": 2, "audit log": 1}}, {Generation: 2, Created: time.Unix(1, 0).UTC(), Current: true},
	}}, p.err
}

func (p keyParts) Rotate(_ context.Context, to string, endSessions bool) (KeyStatus, error) {
	return KeyStatus{File: to, Resealing: endSessions, DataKeys: []DataKey{{Generation: 2, Current: true}}}, p.err
}

// The key is the operator's to rotate, as he says.
func TestTheOperatorRotatesTheKey(t *testing.T) {
	c := serve(t, &parts{}, root, nil)
	s, err := c.KeyStatus(t.Context())
	if err != nil || len(s.DataKeys) != 2 || s.DataKeys[0].Total() != 3 || !s.Inside {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err = c.RotateKey(t.Context(), "/elsewhere/key", true); err != nil || s.File != "/elsewhere/key" || !s.Resealing {
		t.Errorf("%+v, %v", s, err)
	}
	other := root
	other.Account, other.ARN = "444455556666", "arn:aws:iam::444455556666:root"
	c = serve(t, &parts{}, other, nil)
	_, err = c.RotateKey(t.Context(), "", false)
	_, serr := c.KeyStatus(t.Context())
	for _, err := range []error{err, serr} {
		if f, ok := err.(*Failure); !ok || f.Kind != hearth.AccessDenied {
			t.Errorf("another account: %v", err)
		}
	}
}
