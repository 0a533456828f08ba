package control

import (
	"github.com/hearth-faas/hearth/runtimes"
	"github.com/hearth-faas/hearth/sandbox"
)

// ReportOf tells in this API's words what a driver reports.
func ReportOf(r sandbox.Report, version string) Report {
	report := Report{Version: version, Driver: r.Driver, Root: r.Root, Checks: []Check{}}
	for _, c := range r.Checks {
		report.Checks = append(report.Checks, Check(c))
	}
	return report
}

// RuntimesOf tells in this API's words what package runtimes lists.
func RuntimesOf(infos []runtimes.Info) []Runtime {
	list := []Runtime{}
	for _, i := range infos {
		list = append(list, Runtime{
			Name: i.Runtime, Usable: i.Usable, Exact: i.Exact,
			Interpreter: i.Interpreter, Version: i.Version, Note: i.Note,
		})
	}
	return list
}
