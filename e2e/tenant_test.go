package e2e

import (
	"encoding/json"
	"os/exec"
	"strings"
)

// tenant is a server as one of its accounts uses it: the clients and the command
// line have that account's keys, and no data folder.
type tenant struct {
	*server
	id string
}

// tenant makes an account.
func (s *server) tenant(name string) *tenant {
	s.t.Helper()
	out, err := s.hearth("account", "create", name, "--json")
	if err != nil {
		s.t.Fatal(err)
	}
	var made struct {
		Account         struct{ ID string }
		AccessKeyID     string
		SecretAccessKey string
	}
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Account.ID == "" {
		s.t.Fatalf("hearth account create: %v in %q", err, out)
	}
	t := &tenant{id: made.Account.ID}
	t.as(s, made.AccessKeyID, made.SecretAccessKey)
	return t
}

// as points the tenant at a server, which may be another process than before.
func (t *tenant) as(s *server, key, secret string) {
	c := *s
	c.env = []string{"AWS_ENDPOINT_URL=" + s.endpoint, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=" + key, "AWS_SECRET_ACCESS_KEY=" + secret}
	t.server = &c
}

// at is the tenant on another server of the same data folder.
func (t *tenant) at(s *server) *tenant {
	get := func(k string) string {
		for _, kv := range t.env {
			if v, ok := strings.CutPrefix(kv, k+"="); ok {
				return v
			}
		}
		return ""
	}
	n := &tenant{id: t.id}
	n.as(s, get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY"))
	return n
}

// hearth runs the command line as the tenant.
func (t *tenant) hearth(args ...string) (string, error) { return t.hearthWith("", args...) }

// hearthWith is hearth with a standard input.
func (t *tenant) hearthWith(stdin string, args ...string) (string, error) {
	cmd := exec.Command(hearthBinary, args...)
	cmd.Env = cleanEnv(t.env...)
	cmd.Stdin = strings.NewReader(stdin)
	return output(cmd)
}

// must is hearth where an error will not do.
func (t *tenant) must(args ...string) string {
	t.t.Helper()
	out, err := t.hearth(args...)
	if err != nil {
		t.t.Fatal(err)
	}
	return out
}
