package history

import "container/heap"

// oldest finds the n keys that were used longest ago among many: a heap of
// those found so far, with the one used last on top.
type oldest struct {
	n    int
	best []used
}

type used struct {
	key string
	at  int64
}

func newOldest(n int) *oldest { return &oldest{n: n} }

func (o *oldest) Len() int           { return len(o.best) }
func (o *oldest) Less(i, j int) bool { return o.best[i].at > o.best[j].at }
func (o *oldest) Swap(i, j int)      { o.best[i], o.best[j] = o.best[j], o.best[i] }
func (o *oldest) Push(x any)         { o.best = append(o.best, x.(used)) }

func (o *oldest) Pop() any {
	last := o.best[len(o.best)-1]
	o.best = o.best[:len(o.best)-1]
	return last
}

func (o *oldest) offer(key string, at int64) {
	if len(o.best) < o.n {
		heap.Push(o, used{key, at})
		return
	}
	if at < o.best[0].at {
		o.best[0] = used{key, at}
		heap.Fix(o, 0)
	}
}

func (o *oldest) keys() []string {
	keys := make([]string, len(o.best))
	for i, u := range o.best {
		keys[i] = u.key
	}
	return keys
}
