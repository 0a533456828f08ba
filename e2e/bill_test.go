package e2e

import (
	"testing"

	"github.com/hearth-faas/hearth/meter"
)

// TestUseOnOtherNodesIsBilled: what runs on a node is on the server's bill soon,
// and all of it when the node has stopped.
func TestUseOnOtherNodesIsBilled(t *testing.T) {
	t.Parallel()
	s := start(t, "--nodes", "127.0.0.1:0", "--fleet", "high")
	n := s.join("there", "--fleet", "low")
	s.awaitNodes(2)
	s.deploy(function{name: "burn", runtime: "provided.al2023", handler: "bootstrap", zip: goZip(t, "burn"), memory: 512, timeout: 60})
	const calls = 3
	for range calls {
		s.mustInvoke("burn", `{"ms": 50}`)
		if d := s.placed("burn"); d.Node != "there" {
			t.Fatalf("it ran on %q", d.Node)
		}
	}
	billed := func() meter.Line { return s06Bill(t, s.controlClient(), meter.Query{}).Total }
	await(t, patience, "the node's use to be billed", func() bool { return billed().Calls == calls })
	soon := billed()
	if soon.CPUSeconds < 0.05*calls || soon.Starts == 0 || soon.AllottedMiBSeconds <= 0 {
		t.Errorf("%+v", soon)
	}
	s.mustInvoke("burn", `{"ms": 100}`)
	n.stop(t)
	if last := billed(); last.Calls != calls+1 || last.CPUSeconds < soon.CPUSeconds+0.1 {
		t.Errorf("before the node's stop: %+v; after it: %+v", soon, last)
	}
}
