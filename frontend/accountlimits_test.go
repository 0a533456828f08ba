package frontend

import (
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
)

// An account may have another bound than all: what runs already stays, and what
// functions have for themselves is taken from its own.
func TestAnAccountMayHaveABoundOfItsOwn(t *testing.T) {
	l := NewLimits(10, -1)
	now := time.Unix(1, 0)
	f, g := &hearth.Function{Account: "111122223333", Name: "f"}, &hearth.Function{Account: "444455556666", Name: "f"}
	fill := func(f *hearth.Function) (n int) {
		for {
			if _, refused := l.enter(f, now); refused != nil {
				return n
			}
			n++
		}
	}
	l.SetAccount(f.Account, 3)
	if a, b := fill(f), fill(g); a != 3 || b != 10 {
		t.Errorf("%d and %d run at once, want 3 and 10", a, b)
	}
	l.SetAccount(f.Account, 5)
	if n := fill(f); n != 2 {
		t.Errorf("%d more, want 2", n)
	}
	l.SetAccount(f.Account, 0)
	if n := fill(f); n != 5 {
		t.Errorf("%d more, want 5", n)
	}
	two := 2
	l.Set(&hearth.Concurrency{Account: "777788889999", Function: "own", Reserved: &two})
	l.SetAccount("777788889999", 6)
	if n := fill(&hearth.Function{Account: "777788889999", Name: "other"}); n != 4 {
		t.Errorf("%d, want 4 beside the 2 that are reserved", n)
	}
}
