package share

import "github.com/hearth-faas/hearth"

// Offerable tells why a function can't be run for other accounts; nil is that
// it can.
func Offerable(f *hearth.Function) error { return offerable(f) }
