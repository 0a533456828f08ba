package control

import (
	"cmp"
	"context"
	"testing"

	hearth "github.com/hearth-faas/hearth"
)

// idempotentParts is an Idempotence.
type idempotentParts struct{ *parts }

func (p idempotentParts) Idempotent(_ context.Context, _ hearth.Account, function string) ([]Idempotent, error) {
	return []Idempotent{{Function: "f" + function, Declared: cmp.Or(p.declared, &hearth.Idempotence{})}}, p.err
}

func (p idempotentParts) Declare(_ context.Context, account hearth.Account, function string, d *hearth.Idempotence) error {
	p.declared, p.declaredOf = d, string(account)+"/"+function
	return p.err
}

func (p idempotentParts) Forget(context.Context, hearth.Account, string) (int, error) {
	return 3, p.err
}

func TestAFunctionIsDeclaredInTheCallersAccountAndTakenBack(t *testing.T) {
	p := &parts{}
	c := serve(t, p, root, nil)
	d := &hearth.Idempotence{TTLSeconds: 5, Dependencies: []hearth.Dependency{{S3: "s3://b/k"}}, Secrets: map[string]string{"a": "b"}}
	if err := c.DeclareIdempotent(t.Context(), "f", d); err != nil || p.declaredOf != string(ours)+"/f" || p.declared.Secrets["a"] != "b" || p.declared.Dependencies[0].S3 != "s3://b/k" {
		t.Errorf("declared %+v of %s, %v", p.declared, p.declaredOf, err)
	}
	if list, err := c.Idempotent(t.Context(), ""); err != nil || len(list) != 1 || list[0].Declared.TTLSeconds != 5 {
		t.Errorf("%v, %v", list, err)
	}
	if n, err := c.ForgetResults(t.Context(), "f"); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := c.DeclareIdempotent(t.Context(), "f", nil); err != nil || p.declared != nil {
		t.Errorf("taken back: %+v, %v", p.declared, err)
	}
	if _, err := send[IdempotentList](t.Context(), c, "POST", "/idempotent/set", about("f"), []byte(`{"ttl": 5}`)); err == nil {
		t.Error("an unknown field is taken")
	}
}
