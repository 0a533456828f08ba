// Package clock has the two clocks of hearth.Clock: System, the machine's own,
// and Fake, which stands still until a test or a simulation moves it.
package clock

import (
	"time"

	"github.com/hearth-faas/hearth"
)

// System returns the machine's clock. Its times carry the monotonic reading,
// so that differences between them are unmoved by changes of the wall clock.
func System() hearth.Clock { return system{} }

type system struct{}

func (system) Now() time.Time { return time.Now() }

func (system) AfterFunc(d time.Duration, f func()) hearth.Timer { return time.AfterFunc(d, f) }
