package gateway

import (
	"sync"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
)

// Index finds functions by their URLs' ids. The zero Index is empty and ready.
// Safe for concurrent use; a lookup takes no lock.
type Index struct {
	byID sync.Map // id → *endpoint

	mu  sync.Mutex
	ids map[owner]string
}

// owner is what has a URL.
type owner struct {
	account   hearth.Account
	function  string
	qualifier string // "" or an alias
}

// endpoint is a URL that is served.
type endpoint struct {
	owner
	registry.URL
}

// Configured tells of a change of settings; see registry.Config.Configured.
func (x *Index) Configured(c registry.Configured) {
	at := owner{c.Account, c.Function, c.Qualifier}
	x.mu.Lock()
	defer x.mu.Unlock()
	if old, ok := x.ids[at]; ok && (c.Settings.URL == nil || c.Settings.URL.ID != old) {
		x.byID.Delete(old)
		delete(x.ids, at)
	}
	if c.Settings.URL == nil {
		return
	}
	if x.ids == nil {
		x.ids = map[owner]string{}
	}
	x.ids[at] = c.Settings.URL.ID
	x.byID.Store(c.Settings.URL.ID, &endpoint{at, *c.Settings.URL})
}

func (x *Index) find(id string) *endpoint {
	if e, ok := x.byID.Load(id); ok {
		return e.(*endpoint)
	}
	return nil
}
