// Package execution keeps the execution policies: how an account, or one of
// its functions, wants the systems that decide for it to do so.
package execution

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/table"
)

// bucket holds a policy by account, or by account and function.
const bucket = "execution-policy"

// Policies are the policies of all accounts and functions. Safe for concurrent
// use.
type Policies struct {
	own       *table.Table[hearth.ExecutionPolicy]
	changed   func(account hearth.Account, function string)
	effective sync.Map // of *hearth.ExecutionPolicy by string
	mu        sync.Mutex
}

// Open reads what the store has. changed, if it is not nil, is called after
// each change, with the function "" if it is the account's.
func Open(ctx context.Context, s store.Store, changed func(hearth.Account, string)) (*Policies, error) {
	own, err := table.Open[hearth.ExecutionPolicy](ctx, s, bucket)
	if err != nil {
		return nil, err
	}
	if changed == nil {
		changed = func(hearth.Account, string) {}
	}
	return &Policies{own: own, changed: changed}, nil
}

// key is where the policy of a function is, or with the function "" that of
// the account.
func key(account hearth.Account, function string) string {
	if function == "" {
		return string(account)
	}
	return string(account) + "/" + function
}

// Each calls look with every account and function of which something was said,
// the function "" if it is the account's.
func (p *Policies) Each(look func(account hearth.Account, function string)) {
	for k := range p.own.Scan("", "") {
		account, function, _ := strings.Cut(k, "/")
		look(hearth.Account(account), function)
	}
}

// Own is what was said for the function alone, or with the function "" for the
// account; nil if nothing was. It must not be altered.
func (p *Policies) Own(account hearth.Account, function string) *hearth.ExecutionPolicy {
	return p.own.Get(key(account, function))
}

// Of is the policy in force: each field is the function's own, else the
// account's, else the default; none is nil. It must not be altered.
func (p *Policies) Of(account hearth.Account, function string) *hearth.ExecutionPolicy {
	k := key(account, function)
	if e, ok := p.effective.Load(k); ok {
		return e.(*hearth.ExecutionPolicy)
	}
	p.mu.Lock() // so that what was read before a change is not kept after it
	defer p.mu.Unlock()
	e := merge(p.Own(account, function), p.Own(account, ""), Default())
	p.effective.Store(k, e)
	return e
}

// Set makes policy what is said for the function alone, or with the function
// "" for the account; nil takes back what was said. It is on disk when Set
// returns. A policy with a field out of its bounds is an InvalidParameterValue.
func (p *Policies) Set(ctx context.Context, account hearth.Account, function string, policy *hearth.ExecutionPolicy) error {
	if policy != nil {
		if err := Check(policy); err != nil {
			return err
		}
		if function != "" && policy.Capacity != nil && policy.Capacity.Dedicated > 0 {
			return hearth.Errorf(hearth.InvalidParameter, "capacity: dedicated is of an account, whose functions share its instances; say it without a function")
		}
	}
	_, err := p.own.Change(ctx, key(account, function), func(*hearth.ExecutionPolicy) (*hearth.ExecutionPolicy, error) {
		return policy, nil
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.effective.Clear()
	p.mu.Unlock()
	p.changed(account, function)
	return nil
}

// checker is a field of a policy that can be wrong.
type checker interface{ Check() error }

// Check tells what is wrong with a policy, by the name of the field.
func Check(policy *hearth.ExecutionPolicy) error {
	v := reflect.ValueOf(policy).Elem()
	for i := range v.NumField() {
		c, ok := v.Field(i).Interface().(checker)
		if !ok || v.Field(i).IsNil() {
			continue
		}
		if err := c.Check(); err != nil {
			return hearth.Errorf(hearth.InvalidParameter, "%s: %v", name(v.Type().Field(i)), err)
		}
	}
	return nil
}

// name is the name of a field in JSON.
func name(f reflect.StructField) string {
	tag := f.Tag.Get("json")
	for i, c := range tag {
		if c == ',' {
			return tag[:i]
		}
	}
	return tag
}

// merge takes each field from the first of the policies that has it.
func merge(policies ...*hearth.ExecutionPolicy) *hearth.ExecutionPolicy {
	merged := new(hearth.ExecutionPolicy)
	to := reflect.ValueOf(merged).Elem()
	for i := range to.NumField() {
		for _, p := range policies {
			if p == nil {
				continue
			}
			if from := reflect.ValueOf(p).Elem().Field(i); !from.IsNil() {
				to.Field(i).Set(from)
				break
			}
		}
	}
	return merged
}

// Default is the policy where nobody has said anything. Every field is set.
func Default() *hearth.ExecutionPolicy {
	d := new(hearth.ExecutionPolicy)
	v := reflect.ValueOf(d).Elem()
	for i := range v.NumField() {
		// The zero value of each system's policy says "as it is by default";
		// its methods give that a meaning.
		v.Field(i).Set(reflect.New(v.Type().Field(i).Type.Elem()))
	}
	return d
}

// Names are the systems that a policy can speak of, in the order of the type.
func Names() []string {
	t := reflect.TypeFor[hearth.ExecutionPolicy]()
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = name(t.Field(i))
	}
	return names
}

// Owner tells whose policy it is, for a sentence.
func Owner(account hearth.Account, function string) string {
	if function == "" {
		return fmt.Sprintf("account %s", account)
	}
	return function
}
