package registry_test

import (
	"strings"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
)

// An account's own quotas hold for it and for nobody else.
func TestAnAccountsQuotasHold(t *testing.T) {
	quota := registry.Quota{Functions: 1}
	w := newWorld(t, t.TempDir(), func(cfg *registry.Config) {
		cfg.Quota = func(a hearth.Account) registry.Quota {
			if a == account {
				return quota
			}
			return registry.Quota{}
		}
	})
	create := func(a hearth.Account, name string) error {
		f := function(name)
		f.Account = a
		f.Role = strings.Replace(f.Role, string(account), string(a), 1)
		_, err := w.Create(ctx, registry.Create{Function: f, Zip: code(name)})
		return err
	}
	w.must(create(account, "f"))
	if err := create(account, "g"); hearth.KindOf(err) != hearth.LimitExceeded || !strings.Contains(err.Error(), "no more than 1") {
		t.Errorf("a function too many: %v", err)
	}
	w.must(create("222222222222", "f"))
	w.must(create("222222222222", "g"))
	quota = registry.Quota{CodeBytes: 1, Concurrency: 50}
	if err := create(account, "g"); hearth.KindOf(err) != hearth.CodeStorageExceeded {
		t.Errorf("code too much: %v", err)
	}
	if n := w.Unreserved(account); n != 50 {
		t.Errorf("%d of its concurrency is unreserved", n)
	}
	w.settled("f")
	ten := 10
	if err := w.Reserve(ctx, account, "f", &ten); hearth.KindOf(err) != hearth.InvalidParameter {
		t.Errorf("what must be left to all is reserved: %v", err)
	}
}
