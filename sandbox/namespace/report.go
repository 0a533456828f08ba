package namespace

import "github.com/hearth-faas/hearth/sandbox"

// Report implements sandbox.Driver.
func (d *Driver) Report() sandbox.Report {
	return sandbox.Report{Driver: d.Name(), Root: d.root}
}
