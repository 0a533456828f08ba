package main

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/server"
)

// rack is a server with a node that has joined it.
type rack struct{ drained map[string]bool }

func (r rack) List(context.Context) (control.NodeList, error) {
	state := "up"
	if r.drained["rack2"] {
		state = "draining"
	}
	return control.NodeList{Listening: "10.0.0.1:9071", WaitingHigh: 2, Nodes: []control.Node{
		{Name: "local", Local: true, State: "up", Fleets: []string{"high"}, MemoryMiB: 2048},
		{Name: "rack2", Address: "10.0.0.2:9072", State: state, Fleets: []string{"low"}, MemoryMiB: 4096, CommittedMiB: 512, Served: 7, Heard: time.Now()},
	}}, nil
}

func (r rack) Drain(_ context.Context, node string, on bool) error {
	if node != "rack2" {
		return hearth.Errorf(hearth.NotFound, "There is no node %s; hearth nodes lists them.", node)
	}
	r.drained[node] = on
	return nil
}

func TestNodesAreShownAndDrained(t *testing.T) {
	f := newFake(t)
	r := rack{map[string]bool{}}
	f.control.Nodes = r
	f.hearth("nodes").want(t, 0, "512 of 4096 MiB")
	f.hearth("nodes").want(t, 0, "2 invocations wait for a node with room.")
	f.hearth("nodes", "--json").want(t, 0, `"name": "rack2"`)
	f.hearth("nodes", "--drain", "rack2").want(t, 0, "", "Nothing new comes to rack2")
	if !r.drained["rack2"] {
		t.Error("it is not drained")
	}
	f.hearth("nodes", "--undrain", "rack2", "--json").want(t, 0, `"state": "up"`)
	f.hearth("nodes", "--drain", "rack3").want(t, 1, "", "There is no node rack3")
	f.hearth("nodes", "--drain", "a", "--undrain", "b").want(t, 2, "", "at a time")
}

type fakeNode struct{ served bool }

func (*fakeNode) Addr() net.Addr                { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7} }
func (*fakeNode) Name() string                  { return "rack2" }
func (n *fakeNode) Serve(context.Context) error { n.served = true; return nil }

func TestANodeIsToldWhatItsMachineMayDo(t *testing.T) {
	a := newApp()
	var got server.NodeConfig
	n := &fakeNode{}
	a.newNode = func(_ context.Context, cfg server.NodeConfig) (nodeRunner, error) { got = cfg; return n, nil }
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	a.out, a.err, a.getenv = null, null, func(string) string { return "" }
	code := a.run(t.Context(), []string{"node", "--join", "https://10.0.0.1:9071/", "--token-file", "/t", "--name", "rack2", "--memory", "1024", "--fleet", "low", "--data", t.TempDir()})
	if code != 0 || !n.served || got.Join != "10.0.0.1:9071" || got.TokenFile != "/t" || got.MemoryMiB != 1024 || got.Fleet != "low" || got.Listen != "127.0.0.1:0" {
		t.Errorf("code %d, told %+v", code, got)
	}
	for _, bad := range [][]string{{"--join", "nowhere", "--token-file", "/t"}, {"--join", "a:1"}, {"--join", "a:1", "--token-file", "/t", "--fleet", "middle"}, {"--join", "a:1", "--token-file", "/t", "--name", "a/b"}} {
		if code := a.run(t.Context(), append([]string{"node", "--data", t.TempDir()}, bad...)); code != 2 {
			t.Errorf("%v: code %d", bad, code)
		}
	}
}
