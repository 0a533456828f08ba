package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth/sim"
)

func TestSimReplaysATraceWithoutAServer(t *testing.T) {
	f := newFake(t)
	dir := t.TempDir()
	trace := filepath.Join(dir, "inv.csv")
	var header, row strings.Builder
	header.WriteString("HashOwner,HashApp,HashFunction,Trigger")
	row.WriteString("o,a,f,timer")
	for m := range 300 {
		header.WriteString("," + strconv.Itoa(m+1))
		row.WriteString("," + strconv.Itoa((m+1)%15/14))
	}
	write(t, trace, header.String()+"\n"+row.String()+"\n")
	plot := filepath.Join(dir, "frontier.svg")

	f.hearth("sim", "--invocations", trace, "--plot", plot).want(t, 0, "learned (Hearth)")
	if svg, err := os.ReadFile(plot); err != nil || !strings.HasPrefix(string(svg), "<svg") {
		t.Errorf("the plot: %v", err)
	}
	var r sim.Report
	got := f.hearth("sim", "--invocations", trace, "--json")
	if err := json.Unmarshal([]byte(got.out), &r); err != nil || r.Invocations != 20 || r.Functions != 1 || len(r.AtHistogram) != 6 {
		t.Errorf("%v: %s", err, got.out)
	}
	for _, args := range [][]string{
		{"sim"}, {"sim", "--invocations", trace, "--spread", "wide"}, {"sim", "--invocations", trace, "--plot", "a.png"},
		{"sim", "--invocations", trace, "--idle-worth", "0"}, {"sim", "--invocations", trace, "--idle-min", "5h"},
	} {
		f.hearth(args...).want(t, exitUsage, "")
	}
	f.hearth("sim", "--invocations", filepath.Join(dir, "missing.csv")).want(t, exitFailed, "", "can't read the trace")
}
