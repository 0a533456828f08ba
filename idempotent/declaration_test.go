package idempotent_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/idempotent"
	"github.com/hearth-faas/hearth/store"
)

func TestADeclarationThatCannotBeSaysWhy(t *testing.T) {
	for declaration, words := range map[string]string{
		`{}`: "",
		`{"dependencies": [{"s3": "s3://b/${$.a.b[0]['x y']}", "endpoint": "https://s3", "accessKeyId": "AK", "secretAccessKey": "${secret.k}"}], "secrets": {"k": "v"}}`: "",
		`{"dependencies": [{"http": "https://${env.HOST}/a/${$.a}?q=${$.b}", "headers": {"Authorization": "Bearer ${env.T}"}}]}`:                                          "",
		`{"dependencies": [{"sql": "SELECT max(at) FROM t WHERE id = $1;", "database": "postgres://u:${secret.p}@h/d", "args": ["${$.id}"]}], "secrets": {"p": ""}}`:      "",
		`{"dependencies": [{"sql": "with x as (select 1) select * from x", "database": "sqlite:///data/x.db"}]}`:                                                          "",
		`{"dependencies": [{"file": "/data/${$.name}.csv"}, {"function": "g", "event": {"a": ["${$.a}"]}}]}`:                                                              "",
		`{"dependencies": [{}]}`:                                                                                "exactly one of",
		`{"dependencies": [{"s3": "s3://b/k", "file": "/x"}]}`:                                                  "exactly one of",
		`{"dependencies": [{"s3": "s3://b/k", "headers": {"A": "b"}}]}`:                                         "headers does not belong",
		`{"dependencies": [{"s3": "b/k"}]}`:                                                                     "is not s3://BUCKET/KEY",
		`{"dependencies": [{"s3": "s3://b"}]}`:                                                                  "is not s3://BUCKET/KEY",
		`{"dependencies": [{"s3": "s3://b/k", "endpoint": "http://${$.host}"}]}`:                                "can't come from the event",
		`{"dependencies": [{"s3": "s3://b/k", "accessKeyId": "AK"}]}`:                                           "belong together",
		`{"dependencies": [{"s3": "s3://b/k", "accessKeyId": "AK", "secretAccessKey": "literal"}]}`:             "write ${secret.NAME} here",
		`{"dependencies": [{"s3": "s3://b/k", "accessKeyId": "AK", "secretAccessKey": "${secret.gone}"}]}`:      "no secret gone",
		`{"dependencies": [{"http": "ftp://h/"}]}`:                                                              "is neither http",
		`{"dependencies": [{"http": "https://${$.host}/"}]}`:                                                    "can't come from the event",
		`{"dependencies": [{"http": "https://h/", "headers": {"authorization": "Bearer x"}}]}`:                  "write ${secret.NAME} here",
		`{"dependencies": [{"file": "data/x"}]}`:                                                                "no absolute path",
		`{"dependencies": [{"file": "${$.path}"}]}`:                                                             "no absolute path",
		`{"dependencies": [{"sql": "SELECT '${$.id}'", "database": "postgres://h/d"}]}`:                         "into args",
		`{"dependencies": [{"sql": "ATTACH '/etc/x' AS y", "database": "sqlite:///x.db"}]}`:                     "one query is wanted",
		`{"dependencies": [{"sql": "SELECT 1; ATTACH '/etc/x' AS y", "database": "sqlite:///x.db"}]}`:           "one query is wanted",
		`{"dependencies": [{"sql": "SELECT 1", "database": "postgres://u:pw@h/d"}]}`:                            "write ${secret.NAME} here",
		`{"dependencies": [{"sql": "SELECT 1", "database": "mysql://h/d"}]}`:                                    "neither postgres",
		`{"dependencies": [{"sql": "SELECT 1"}]}`:                                                               "neither postgres",
		`{"dependencies": [{"function": "${$.f}"}]}`:                                                            "nothing filled in",
		`{"dependencies": [{"s3": "s3://b/${$.list[*]}"}]}`:                                                     "one field is meant",
		`{"dependencies": [{"s3": "s3://b/${key}"}]}`:                                                           "none of ${$.FIELD}",
		`{"dependencies": [{"s3": "s3://b/${$.key"}]}`:                                                          "has no }",
		`{"parameters": ["key"]}`:                                                                               "does not begin with $",
		`{"ttlSeconds": -1}`:                                                                                    "ttlSeconds",
		`{"maxRecords": 1000000}`:                                                                               "maxRecords",
		`{"dependencies": [` + strings.Repeat(`{"file":"/a"},`, idempotent.MaxDependencies) + `{"file":"/a"}]}`: "are the limit",
	} {
		var d hearth.Idempotence
		if err := json.Unmarshal([]byte(declaration), &d); err != nil {
			t.Fatalf("%s: %v", declaration, err)
		}
		err := idempotent.Check(&d)
		switch {
		case words == "" && err != nil:
			t.Errorf("%s: %v", declaration, err)
		case words != "" && (hearth.KindOf(err) != hearth.InvalidParameter || !strings.Contains(err.Error(), words)):
			t.Errorf("%s: %v, and not %s", declaration, err, words)
		}
	}
}

func TestWhatIsFilledInCannotLeadElsewhere(t *testing.T) {
	p := newPlace(t)
	p.functions["f"].Env = map[string]string{"HOST": "h.example", "DB": "postgres://u:hidden@h/d"}
	p.declare("f", `{"dependencies": [
		{"http": "https://${env.HOST}/a/${$.a}?q=${$.q}", "headers": {"X-Key": "${secret.k}"}},
		{"sql": "SELECT 1 WHERE $1 > ''", "database": "${env.DB}", "args": ["${$.q}"]},
		{"s3": "s3://b$${/${$.n}"}], "secrets": {"k": "hidden"}}`)
	p.want(`{"a":"../../x y?z=1#","q":"&admin=1","n":12345678901234567890}`, "run 1")
	p.want(`{"a":"..","q":"","n":1}`, "run 2") // no part of a path: run, and nobody asked
	if len(p.resources) != 6 {                 // three of them, before and after
		t.Fatalf("%d resources were asked for", len(p.resources))
	}
	for _, r := range p.resources[:3] {
		d := r.Dependency
		switch {
		case d.HTTP != "":
			if d.HTTP != "https://h.example/a/..%2F..%2Fx%20y%3Fz=1%23?q=%26admin%3D1" || d.Headers["X-Key"] != "hidden" {
				t.Errorf("asked for %s with %v", d.HTTP, d.Headers)
			}
		case d.SQL != "":
			if d.Database != "postgres://u:hidden@h/d" || d.Args[0] != "&admin=1" {
				t.Errorf("asked for %+v", d)
			}
		default:
			if r.Bucket != "b${" || r.Key != "12345678901234567890" {
				t.Errorf("asked for %s, %s", r.Bucket, r.Key)
			}
		}
		if strings.Contains(r.Name, "hidden") {
			t.Errorf("the name %s shows a secret", r.Name)
		}
	}
}

func TestTwoResourcesOfOneNameAreToldApart(t *testing.T) {
	p := newPlace(t)
	p.declare("f", `{"environment": [], "dependencies": [{"s3": "s3://${env.B}/k"}]}`)
	for i, b := range []string{"one", "two"} {
		f := *p.functions["f"]
		f.Env, f.Generation = map[string]string{"B": b}, uint64(i)
		p.functions["f"] = &f
		p.want(`{}`, []string{"run 1", "run 2"}[i])
	}
}

func TestSecretsAreSealedAndToldToNobody(t *testing.T) {
	p := newPlace(t)
	const declaration = `{"dependencies": [{"http": "https://h/", "headers": {"X-Key": "${secret.k}"}}], "secrets": {"k": "very hidden"}}`
	p.declare("f", declaration)
	p.declare("f", strings.Replace(declaration, "very hidden", "", 1)) // stays as it is
	p.shut()
	p.open()
	if d := p.Get(ours, "f"); len(d.Secrets) != 1 || d.Secrets["k"] != "" {
		t.Errorf("shown: %v", d.Secrets)
	}
	p.want(`{}`, "run 1")
	if got := p.resources[0].Dependency.Headers["X-Key"]; got != "very hidden" {
		t.Errorf("asked with %q", got)
	}
	err := p.store.View(t.Context(), func(r store.Reader) error {
		for _, bucket := range []string{"idempotent", "idempotent-record"} {
			for rec, err := range r.Scan(bucket, "", "") {
				if err != nil || strings.Contains(string(rec.Value), "very hidden") {
					t.Errorf("%s on disk: %s, %v", rec.Key, rec.Value, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var d hearth.Idempotence
	if err := json.Unmarshal([]byte(`{"secrets": {"new": ""}}`), &d); err != nil {
		t.Fatal(err)
	}
	if err := p.Set(t.Context(), ours, "f", &d); hearth.KindOf(err) != hearth.InvalidParameter {
		t.Errorf("a secret of nothing is taken: %v", err)
	}
}
