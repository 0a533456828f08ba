package backfill

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// Order says which items wait until others are done.
type Order struct {
	// Field of an item's value has the id that it waits for, or a list of ids.
	Field string `json:"field,omitempty"`
	// Rules are of the ids alone.
	Rules []Rule `json:"rules,omitempty"`
	// Chain is a regular expression: items for which its first group (or all of
	// it) is the same are done one after the other, in the order of their ids, in
	// which numbers count by their value.
	Chain string `json:"chain,omitempty"`
}

// Rule is that an item whose id Match matches waits for the one with the id
// After, in which $1 is the first group.
type Rule struct {
	Match string `json:"match"` // a regular expression
	After string `json:"after"`
}

// Plan is what became of an Order.
type Plan struct {
	Items   int `json:"items"`
	Edges   int `json:"edges"`   // one waits for another
	Steps   int `json:"steps"`   // the longest chain's items
	Blocked int `json:"blocked"` // items that were given up since another was
}

// maxOrdered is how many items can have an order: it is in memory, some 300
// bytes an item.
const maxOrdered = 1_000_000

// node is an item of an order.
type node struct {
	hash  hash
	id    string
	deps  []string // ids
	waits int      // for so many that are not done
	after []int32  // the nodes that wait for it
}

// order is the items that wait, and for what. Its lock is after the job's.
type order struct {
	spec  *Order
	chain *regexp.Regexp
	rules []*regexp.Regexp

	mu      sync.Mutex
	nodes   []node
	at      map[hash]int32
	ready   []hash // wait for nothing, and were not read yet
	left    int    // nodes that are not settled
	planned bool
}

// openOrder reads what an order says. Errors: InvalidParameter.
func openOrder(spec *Order) (*order, error) {
	o := &order{spec: spec, at: map[hash]int32{}}
	compile := func(text string) (*regexp.Regexp, error) {
		r, err := regexp.Compile(text)
		if err != nil {
			return nil, hearth.Errorf(hearth.InvalidParameter, "The order's %q is no regular expression: %v.", text, err)
		}
		return r, nil
	}
	for _, rule := range spec.Rules {
		if rule.After == "" {
			return nil, hearth.Errorf(hearth.InvalidParameter, "The order's rule for %q does not say what to wait for.", rule.Match)
		}
		r, err := compile(rule.Match)
		if err != nil {
			return nil, err
		}
		o.rules = append(o.rules, r)
	}
	if spec.Chain != "" {
		var err error
		if o.chain, err = compile(spec.Chain); err != nil {
			return nil, err
		}
	}
	if spec.Field == "" && len(spec.Rules) == 0 && spec.Chain == "" {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The order says nothing: give a field, a rule or a chain.")
	}
	return o, nil
}

// waitsFor are the ids that an item waits for by its value and its id.
func (o *order) waitsFor(id string, value json.RawMessage) (deps []string, err error) {
	if o.spec.Field != "" {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(value, &object); err != nil {
			return nil, hearth.Errorf(hearth.InvalidParameter, "The item %s has no field %q: its value is no object.", id, o.spec.Field)
		}
		if deps, err = idsOf(object[o.spec.Field]); err != nil {
			return nil, hearth.Errorf(hearth.InvalidParameter, "The item %s has in its field %q neither an id nor a list of ids.", id, o.spec.Field)
		}
	}
	for i, r := range o.rules {
		if m := r.FindStringSubmatchIndex(id); m != nil {
			deps = append(deps, string(r.ExpandString(nil, o.spec.Rules[i].After, id, m)))
		}
	}
	slices.Sort(deps)
	return slices.Compact(deps), nil
}

// idsOf are the ids in a field: nothing, a text, a number, or a list of these.
func idsOf(field json.RawMessage) ([]string, error) {
	if len(field) == 0 || string(field) == "null" {
		return nil, nil
	}
	one := func(raw json.RawMessage) (string, error) {
		var n json.Number
		if json.Unmarshal(raw, &n) == nil {
			return n.String(), nil
		}
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err
	}
	if field[0] != '[' {
		id, err := one(field)
		return []string{id}, err
	}
	var list []json.RawMessage
	if err := json.Unmarshal(field, &list); err != nil {
		return nil, err
	}
	ids := make([]string, len(list))
	for i, raw := range list {
		var err error
		if ids[i], err = one(raw); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func (o *order) has(h hash) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.at[h]
	return ok
}

// add takes in items that were found. Errors: InvalidParameter, LimitExceeded.
func (o *order) add(items []*item) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, it := range items {
		deps, err := o.waitsFor(it.ID, it.Value)
		if err != nil {
			return err
		}
		if len(o.nodes) == maxOrdered {
			return hearth.Errorf(hearth.InvalidParameter, "The data set has more than %d items, which is more than can have an order: split it.", maxOrdered)
		}
		o.at[it.hash] = int32(len(o.nodes))
		o.nodes = append(o.nodes, node{hash: it.hash, id: it.ID, deps: deps})
	}
	o.left = len(o.nodes)
	return nil
}

// plan puts the items in order. done tells whether one that is not among them
// was done before. Errors: InvalidParameter, if there is no such order.
func (o *order) plan(done func(hash) (bool, error)) (p Plan, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p.Items = len(o.nodes)
	wait := func(i, j int32) { // i waits for j
		o.nodes[i].waits++
		o.nodes[j].after = append(o.nodes[j].after, i)
		p.Edges++
	}
	chains := map[string][]int32{}
	for i := range o.nodes {
		n := &o.nodes[i]
		for _, id := range n.deps {
			if j, ok := o.at[hashOf(id)]; ok {
				wait(int32(i), j)
			} else if was, err := done(hashOf(id)); err != nil {
				return p, err
			} else if !was {
				return p, hearth.Errorf(hearth.InvalidParameter, "The item %s waits for %s, which is not in the data set. Nothing was called.", n.id, id)
			}
		}
		n.deps = nil
		if o.chain == nil {
			continue
		}
		if m := o.chain.FindStringSubmatch(n.id); m != nil {
			name := m[min(1, len(m)-1)]
			chains[name] = append(chains[name], int32(i))
		}
	}
	for _, chain := range chains {
		slices.SortFunc(chain, func(a, b int32) int { return natural(o.nodes[a].id, o.nodes[b].id) })
		for k := 1; k < len(chain); k++ {
			wait(chain[k], chain[k-1])
		}
	}
	waits := make([]int, len(o.nodes)) // what is left to wait for, in this rehearsal
	step := make([]int, len(o.nodes))
	var queue []int32
	for i := range o.nodes {
		if waits[i] = o.nodes[i].waits; waits[i] == 0 {
			o.ready = append(o.ready, o.nodes[i].hash)
			queue = append(queue, int32(i))
			step[i] = 1
		}
	}
	for n := 0; n < len(queue); n++ {
		i := queue[n]
		p.Steps = max(p.Steps, step[i])
		for _, k := range o.nodes[i].after {
			step[k] = max(step[k], step[i]+1)
			if waits[k]--; waits[k] == 0 {
				queue = append(queue, k)
			}
		}
	}
	if len(queue) < len(o.nodes) {
		return p, hearth.Errorf(hearth.InvalidParameter, "Items wait for each other: %s. Nothing was called.", o.circle(waits))
	}
	o.planned = true
	return p, nil
}

// circle names a circle among the nodes that still wait.
func (o *order) circle(waits []int) string {
	on := map[int32]int32{} // a node, and one of those that it waits for
	for j := range o.nodes {
		if waits[j] > 0 {
			for _, i := range o.nodes[j].after {
				if waits[i] > 0 {
					on[i] = int32(j)
				}
			}
		}
	}
	var at int32
	for i := range o.nodes { // a node that waits for one that waits
		if _, ok := on[int32(i)]; ok && waits[i] > 0 {
			at = int32(i)
			break
		}
	}
	seen := map[int32]int{}
	var way []string
	for {
		if from, ok := seen[at]; ok {
			way = append(way[from:], o.nodes[at].id)
			break
		}
		seen[at] = len(way)
		way = append(way, o.nodes[at].id)
		at = on[at]
	}
	if len(way) > 10 {
		way = append(way[:9], "…", way[len(way)-1])
	}
	return strings.Join(way, " waits for ")
}

// take gives up to most items that wait for nothing.
func (o *order) take(most int) []hash {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := min(most, len(o.ready))
	taken := slices.Clone(o.ready[:n])
	o.ready = o.ready[n:]
	return taken
}

// state tells how many items are ready to be read, and how many not settled.
func (o *order) state() (ready, left int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.ready), o.left
}

// dependants are all that wait for items that were given up, directly or not,
// and were not given up before.
func (o *order) dependants(given []*item) (blocked []hash) {
	if len(given) == 0 {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var stack []int32
	for _, it := range given {
		stack = append(stack, o.at[it.hash])
	}
	for len(stack) > 0 {
		n := &o.nodes[stack[len(stack)-1]]
		stack = stack[:len(stack)-1]
		for _, k := range n.after {
			if o.nodes[k].waits >= 0 {
				o.nodes[k].waits = -1 // for ever
				blocked = append(blocked, o.nodes[k].hash)
				stack = append(stack, k)
			}
		}
	}
	return blocked
}

// settled lets those go on that waited for what is done.
func (o *order) settled(done, given []*item, blocked []hash) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left -= len(done) + len(given) + len(blocked)
	for _, it := range done {
		for _, k := range o.nodes[o.at[it.hash]].after {
			n := &o.nodes[k]
			if n.waits > 0 {
				if n.waits--; n.waits == 0 {
					o.ready = append(o.ready, n.hash)
				}
			}
		}
	}
}

// feed puts the items in order, and reads them when it is their turn.
func (j *job) feed() error {
	j.mu.Lock()
	over := j.stopped || j.why != nil
	j.mu.Unlock()
	if over {
		return nil
	}
	p, err := j.order.plan(j.doneBefore)
	if err != nil {
		return err
	}
	j.mu.Lock()
	if j.rec.Ordered != nil {
		p.Blocked = j.rec.Ordered.Blocked
	}
	j.rec.Ordered = &p
	j.mu.Unlock()
	j.decide("order", fmt.Sprintf("%d items, %d of which one waits for another, %d steps", p.Items, p.Edges, p.Steps))
	for {
		j.mu.Lock()
		for {
			ready, left := j.order.state()
			if over = j.stopped || j.why != nil || left == 0; over || ready > 0 && len(j.inside) <= j.rec.Spec.window()/2 {
				break
			}
			j.cond.Wait()
		}
		j.mu.Unlock()
		if over {
			return nil
		}
		if err := j.readItems(j.order.take(page)); err != nil {
			return err
		}
	}
}

// doneBefore tells whether an item was done by an earlier run of the job, and
// not given up.
func (j *job) doneBefore(h hash) (done bool, err error) {
	if done, err = j.settledBefore(h); !done || err != nil {
		return false, err
	}
	err = j.jobs.cfg.Store.View(j.ctx, func(r store.Reader) error {
		_, failed, err := r.Get(failedBucket, j.key(h))
		done = !failed
		return err
	})
	return done, err
}

// readItems has items whose turn it is taken by the next calls.
func (j *job) readItems(hs []hash) error {
	var items []*item
	err := j.jobs.cfg.Store.View(j.ctx, func(r store.Reader) error {
		for _, h := range hs {
			b, ok, err := r.Get(itemsBucket, j.key(h))
			if err != nil {
				return err
			}
			it := &item{hash: h}
			if !ok {
				return fmt.Errorf("the item %x is in the order, and not in the store", h[:])
			}
			if err := json.Unmarshal(b, &it.stored); err != nil {
				return fmt.Errorf("the item %x is damaged: %w", h[:], err)
			}
			items = append(items, it)
		}
		return nil
	})
	if err != nil {
		if j.ctx.Err() != nil {
			return nil
		}
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, it := range items {
		j.inside[it.hash] = it
	}
	j.push(items...)
	return nil
}

// block gives up what waits for items that were given up.
func (j *job) block(tx store.Tx, blocked []hash) error {
	for _, h := range blocked {
		b, ok, err := tx.Get(itemsBucket, j.key(h))
		if err != nil {
			return err
		}
		var it stored
		if ok {
			if err := json.Unmarshal(b, &it); err != nil {
				return err
			}
		}
		f, err := json.Marshal(Failure{it.ID, it.Value, it.Attempts, "it waits for an item that was given up"})
		if err != nil {
			return err
		}
		if err := cmp.Or(tx.Delete(itemsBucket, j.key(h)), tx.Put(recentBucket, j.key(h), []byte{1}), tx.Put(failedBucket, j.key(h), f)); err != nil {
			return err
		}
	}
	return nil
}

// natural compares texts, in which numbers count by their value.
func natural(a, b string) int {
	digits := func(s string) int {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		return n
	}
	x, y := a, b
	for x != "" && y != "" {
		n, m := digits(x), digits(y)
		if n > 0 && m > 0 {
			p, q := strings.TrimLeft(x[:n], "0"), strings.TrimLeft(y[:m], "0")
			if c := cmp.Or(cmp.Compare(len(p), len(q)), cmp.Compare(p, q)); c != 0 {
				return c
			}
			x, y = x[n:], y[m:]
			continue
		}
		if x[0] != y[0] {
			return cmp.Compare(x[0], y[0])
		}
		x, y = x[1:], y[1:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(a, b))
}
