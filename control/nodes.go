package control

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hearth-faas/hearth"
)

// Node is a machine on which functions run.
type Node struct {
	Name    string   `json:"name"`
	ID      string   `json:"id"`
	Address string   `json:"address,omitempty"` // where the server reaches it
	Local   bool     `json:"local,omitempty"`   // the server's own
	State   string   `json:"state"`             // up, draining or suspect
	Fleet   string   `json:"fleet"`             // what it was started for: low, high or auto
	Fleets  []string `json:"fleets"`            // what it is of: none while nothing new comes to it
	// MemoryMiB is what it may promise to functions, CommittedMiB what it has.
	MemoryMiB    int       `json:"memoryMiB"`
	CommittedMiB int       `json:"committedMiB"`
	Containers   int       `json:"containers"`
	InFlight     int       `json:"inFlight"` // invocations of this server
	WarmMiB      int       `json:"warmMiB"`  // of the low-volume code that it keeps warm
	Served       uint64    `json:"served"`   // invocations since it joined
	Version      string    `json:"version"`  // of Hearth
	Since        time.Time `json:"since"`    // when it joined
	Heard        time.Time `json:"heard"`    // its last heartbeat
}

// NodeList is the answer of /nodes, by name.
type NodeList struct {
	Nodes []Node `json:"nodes"`
	// Listening is where nodes join; "" if they may not.
	Listening string `json:"listening,omitempty"`
	// WaitingLow and WaitingHigh are invocations for which no node has room, by
	// the class of their code.
	WaitingLow  int `json:"waitingLow"`
	WaitingHigh int `json:"waitingHigh"`
}

// Nodes tells of nodes. Safe for concurrent use.
type Nodes interface {
	List(ctx context.Context) (NodeList, error)
	// Drain has nothing new come to a node, by its name or id, or ends that.
	// Errors: ResourceNotFound, InvalidParameterValue.
	Drain(ctx context.Context, node string, on bool) error
}

func (h *Handler) nodes(ctx context.Context, _ ask) (any, error) {
	list, err := h.Nodes.List(ctx)
	list.Nodes = some(list.Nodes)
	for i := range list.Nodes {
		list.Nodes[i].Fleets = some(list.Nodes[i].Fleets)
	}
	return list, err
}

// Drained is the answer of /nodes/drain.
type Drained struct {
	Node string `json:"node"`
	On   bool   `json:"on"`
}

func (h *Handler) drainNode(ctx context.Context, a ask) (any, error) {
	name := a.q.Get("node")
	if name == "" {
		return nil, hearth.Errorf(hearth.InvalidParameter, "Which node? Add ?node=NAME.")
	}
	on := true
	if s := a.q.Get("on"); s != "" {
		var err error
		if on, err = strconv.ParseBool(s); err != nil {
			return nil, hearth.Errorf(hearth.InvalidParameter, "on: %q is neither true nor false.", s)
		}
	}
	return Drained{name, on}, h.Nodes.Drain(ctx, name, on)
}

// Nodes lists the nodes, by name.
func (c *Client) Nodes(ctx context.Context) (NodeList, error) {
	return get[NodeList](ctx, c, "/nodes", nil)
}

// Drain has nothing new come to a node, or ends that.
func (c *Client) Drain(ctx context.Context, node string, on bool) error {
	_, err := send[Drained](ctx, c, http.MethodPost, "/nodes/drain", url.Values{"node": {node}, "on": {strconv.FormatBool(on)}}, nil)
	return err
}
