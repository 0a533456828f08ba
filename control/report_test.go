package control

import (
	"testing"

	"github.com/hearth-faas/hearth/runtimes"
	"github.com/hearth-faas/hearth/sandbox"
)

func TestReportsKeepWhatTheirSourcesSay(t *testing.T) {
	r := ReportOf(sandbox.Report{Driver: "d", Root: true, Checks: []sandbox.Check{{Name: "n", OK: true, Detail: "x", Fix: "f"}}}, "1.2")
	if r.Version != "1.2" || r.Driver != "d" || !r.Root || len(r.Checks) != 1 || r.Checks[0] != (Check{"n", true, "x", "f"}) {
		t.Errorf("%+v", r)
	}
	list := RuntimesOf([]runtimes.Info{{Runtime: "python3.12", Interpreter: "/p", Version: "3.11.2", Usable: true, Note: "nearest"}})
	if len(list) != 1 || list[0] != (Runtime{Name: "python3.12", Usable: true, Interpreter: "/p", Version: "3.11.2", Note: "nearest"}) {
		t.Errorf("%+v", list)
	}
}
