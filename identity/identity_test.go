package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

// clock stands still until it is set.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time                               { return c.now }
func (c *clock) AfterFunc(time.Duration, func()) hearth.Timer { panic("not used here") }

func same(a, b Root) bool {
	secrets := a.SecretAccessKey.Reveal() == b.SecretAccessKey.Reveal()
	a.SecretAccessKey, b.SecretAccessKey = Secret{}, Secret{}
	return secrets && a == b
}

func newClock() *clock { return &clock{time.Date(2030, 1, 2, 3, 4, 5, 600e6, time.UTC)} }

func mustLoad(t testing.TB, cfg Config) *Authority {
	t.Helper()
	if cfg.Clock == nil {
		cfg.Clock = newClock()
	}
	a, err := LoadOrCreate(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const role = "arn:aws:iam::123456789012:role/service/lambda-role"

func TestTheFirstStartMakesCredentialsThatLaterStartsKeep(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadRoot(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the first start: %v", err)
	}
	first := mustLoad(t, Config{Dir: dir}).Root()
	if first.Account != hearth.DefaultAccount || first.Region != hearth.DefaultRegion {
		t.Errorf("made %v", first)
	}
	if !regexp.MustCompile(`^AKIA[A-Z2-7]{16}$`).MatchString(first.AccessKeyID) || !regexp.MustCompile(`^[A-Za-z0-9+/]{40}$`).MatchString(first.SecretAccessKey.Reveal()) {
		t.Errorf("%s and a secret of %d characters are not shaped as AWS's are", first.AccessKeyID, len(first.SecretAccessKey.Reveal()))
	}
	if again := mustLoad(t, Config{Dir: dir, Account: first.Account, Region: first.Region}).Root(); !same(again, first) {
		t.Errorf("%v became %v", first, again)
	}
	if read, err := ReadRoot(dir); !same(read, first) || err != nil {
		t.Errorf("ReadRoot: %v %v", read, err)
	}
	for _, name := range []string{CredentialsFile, MasterKeyFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if other := mustLoad(t, Config{Dir: t.TempDir()}).Root(); other.AccessKeyID == first.AccessKeyID || other.SecretAccessKey.Reveal() == first.SecretAccessKey.Reveal() {
		t.Error("two folders got the same credentials")
	}
}

func TestAnotherAccountOrRegionThanTheFoldersIsRefused(t *testing.T) {
	dir := t.TempDir()
	mustLoad(t, Config{Dir: dir, Account: "123456789012", Region: "eu-west-1"})
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{Account: "210987654321"}, "belongs to account 123456789012"},
		{Config{Region: "us-east-1"}, "is of region eu-west-1"},
		{Config{Account: "12"}, "twelve digits"},
		{Config{Region: "Mars"}, "looks like us-east-1"},
	} {
		c.cfg.Dir, c.cfg.Clock = dir, newClock()
		if _, err := LoadOrCreate(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, the error is %v", c.want, err)
		}
	}
	if got := mustLoad(t, Config{Dir: dir}).Root(); got.Account != "123456789012" || got.Region != "eu-west-1" {
		t.Errorf("%v", got)
	}
}

func TestAFileThatOthersMayReadIsRepairedWithANotice(t *testing.T) {
	dir := t.TempDir()
	mustLoad(t, Config{Dir: dir})
	path := filepath.Join(dir, CredentialsFile)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	mustLoad(t, Config{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if !strings.Contains(log.String(), path) || !strings.Contains(log.String(), "readable by others") {
		t.Errorf("the log says %q", log.String())
	}
}

func TestADamagedOrForeignFileIsRefusedWithoutShowingIt(t *testing.T) {
	good := mustLoad(t, Config{Dir: t.TempDir()})
	secret := good.Root().SecretAccessKey.Reveal()
	full := fmt.Sprintf(`{"version":1,"account":"000000000000","region":"us-east-1","accessKeyId":%q,"secretAccessKey":%q}`, good.Root().AccessKeyID, secret)
	for _, c := range []struct{ name, content, want string }{
		{CredentialsFile, "", "damaged"},
		{CredentialsFile, secret, "damaged"},
		{CredentialsFile, full[:len(full)-2], "damaged"},
		{CredentialsFile, full + full, "something follows"},
		{CredentialsFile, strings.Replace(full, "0000", "00", 1), "its account"},
		{CredentialsFile, strings.Replace(full, secret, secret+"x", 1), "its secretAccessKey"},
		{CredentialsFile, strings.Replace(full, `:1,`, `:2,`, 1), "newer version of Hearth"},
		{CredentialsFile, strings.Replace(full, `:1,`, `:0,`, 1), "no version"},
		{MasterKeyFile, `{"version":1,"key":"c2hvcnQ="}`, "another length"},
		{MasterKeyFile, `{"version":3,"key":""}`, "newer version of Hearth"},
	} {
		dir := t.TempDir()
		mustLoad(t, Config{Dir: dir})
		if err := os.WriteFile(filepath.Join(dir, c.name), []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadOrCreate(Config{Dir: dir, Clock: newClock()})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s %.20q: %v", c.name, c.content, err)
		}
	}
	// A lost master key is not quietly replaced; a link is not followed.
	dir := t.TempDir()
	mustLoad(t, Config{Dir: dir})
	key := filepath.Join(dir, MasterKeyFile)
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreate(Config{Dir: dir, Clock: newClock()}); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("the error is %v", err)
	}
	if err := os.Symlink(key+".away", key); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreate(Config{Dir: dir, Clock: newClock()}); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("the error is %v", err)
	}
}

func TestWhatACrashLeftOfAFileIsSwept(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "."+CredentialsFile+"-123")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, Config{Dir: dir})
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

func TestLookupKnowsRootAndSessionsAndNobodyElse(t *testing.T) {
	dir, now := t.TempDir(), newClock()
	a := mustLoad(t, Config{Dir: dir, Account: "123456789012", Clock: now})
	root := a.Root()
	s, err := a.Mint(Grant{Account: "123456789012", Name: "my-function", Role: role}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^ASIA[A-Z2-7]{16}$`).MatchString(s.AccessKeyID) || len(s.SecretAccessKey.Reveal()) != 40 || !s.Expires.Equal(now.now.Add(time.Hour).Truncate(time.Second)) {
		t.Errorf("minted %v, %d, %v", s.AccessKeyID, len(s.SecretAccessKey.Reveal()), s.Expires)
	}
	token := s.SessionToken.Reveal()
	stranger, err := mustLoad(t, Config{Dir: t.TempDir(), Account: "123456789012"}).Mint(Grant{Account: "123456789012", Name: "my-function", Role: role}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	last := len(token) - 3
	changed := token[:last] + string("AB"[b2i(token[last] == 'A')]) + token[last+1:]

	// A restart keeps sessions: nothing of them is in memory only.
	restarted := mustLoad(t, Config{Dir: dir, Clock: now})
	for name, a := range map[string]*Authority{"first": a, "cached": a, "restarted": restarted} {
		t.Run(name, func(t *testing.T) {
			secret, id, err := a.Lookup(root.AccessKeyID, "")
			if secret != root.SecretAccessKey.Reveal() || err != nil || id != (hearth.Identity{Account: "123456789012", ARN: "arn:aws:iam::123456789012:root", UserID: "123456789012"}) {
				t.Errorf("root: %v %v", id, err)
			}
			secret, id, err = a.Lookup(s.AccessKeyID, token)
			if secret != s.SecretAccessKey.Reveal() || err != nil || id.Account != "123456789012" ||
				id.ARN != "arn:aws:sts::123456789012:assumed-role/lambda-role/my-function" || !regexp.MustCompile(`^AROA[A-Z2-7]{17}:my-function$`).MatchString(id.UserID) {
				t.Errorf("session: %v %v", id, err)
			}
			for what, pair := range map[string][2]string{
				"nobody":                    {"", ""},
				"unknown key":               {"AKIAIOSFODNN7EXAMPLE", ""},
				"session key without token": {s.AccessKeyID, ""},
				"root key with token":       {root.AccessKeyID, token},
				"token of another server":   {stranger.AccessKeyID, stranger.SessionToken.Reveal()},
				"changed token":             {s.AccessKeyID, changed},
				"token with white space":    {s.AccessKeyID, token + "\n"},
				"no token at all":           {s.AccessKeyID, "x"},
				"long token":                {s.AccessKeyID, strings.Repeat("A", 1<<16)},
			} {
				secret, id, err := a.Lookup(pair[0], pair[1])
				if e, ok := errors.AsType[*hearth.Error](err); !ok || e.Kind != hearth.UnrecognizedClient || e.Message != "The security token included in the request is invalid." || secret != "" || id != (hearth.Identity{}) {
					t.Errorf("%s: %v %v", what, id, err)
				}
			}
		})
	}

	now.now = s.Expires.Add(-time.Nanosecond)
	if _, _, err := a.Lookup(s.AccessKeyID, token); err != nil {
		t.Errorf("just before its end: %v", err)
	}
	now.now = s.Expires
	for _, a := range []*Authority{a, mustLoad(t, Config{Dir: dir, Clock: now})} {
		_, _, err := a.Lookup(s.AccessKeyID, token)
		if e, ok := errors.AsType[*hearth.Error](err); !ok || e.Kind != hearth.ExpiredToken || e.Kind.Status() != 403 || e.Message != "The security token included in the request is expired" {
			t.Errorf("at its end: %v", err)
		}
	}
}

func TestASessionIsOfTheRoleOrOfRoot(t *testing.T) {
	now := newClock()
	a := mustLoad(t, Config{Dir: t.TempDir(), Account: "123456789012", Clock: now})
	for want, g := range map[hearth.Identity]Grant{
		{Account: "123456789012", ARN: "arn:aws:iam::123456789012:root", UserID: "123456789012"}:                                            {Account: "123456789012"},
		{Account: "123456789012", ARN: "arn:aws:sts::123456789012:assumed-role/lambda-role/me", UserID: "AROAEXAMPLEID0000:me", Role: role}: {Account: "123456789012", Role: role, RoleID: "AROAEXAMPLEID0000", Name: "me"},
	} {
		s, err := a.Mint(g, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		_, id, err := a.Lookup(s.AccessKeyID, s.SessionToken.Reveal())
		want.Issued = now.now.Unix()
		if id != want || s.Identity != want || err != nil {
			t.Errorf("%+v and %+v, %v, expected %+v", id, s.Identity, err, want)
		}
	}
}

func TestAKeyTellsItsAccountToWhoeverMadeIt(t *testing.T) {
	a := mustLoad(t, Config{Dir: t.TempDir(), Account: "123456789012"})
	s, err := a.Mint(Grant{Account: "123456789012"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{s.AccessKeyID, a.Root().AccessKeyID} {
		if account, ok := a.AccountOf(id); account != "123456789012" || !ok {
			t.Errorf("%s: %q %v", id, account, ok)
		}
	}
	other := mustLoad(t, Config{Dir: t.TempDir(), Account: "123456789012"})
	for _, id := range []string{s.AccessKeyID, a.Root().AccessKeyID, "", "ASIA", "ASIAIOSFODNN7EXAMPLE"} {
		if account, ok := other.AccountOf(id); account != "" || ok {
			t.Errorf("%s is known to another: %q", id, account)
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestMintRefusesWhatIsNoAccountNameOrRole(t *testing.T) {
	a := mustLoad(t, Config{Dir: t.TempDir()})
	for _, c := range []Grant{
		{Account: "12", Name: "f", Role: role},
		{Account: "123456789012", Role: role},
		{Account: "123456789012", Name: "f"},
		{Account: "123456789012", RoleID: "AROAX"},
		{Account: "123456789012", Name: strings.Repeat("f", 65), Role: role},
		{Account: "123456789012", Name: "f", Role: "arn:aws:iam::123456789012:user/u"},
		{Account: "123456789012", Name: "f", Role: "arn:aws:iam::123456789012:role/" + strings.Repeat("r", 1024)},
		{Account: "123456789012", Name: "f", Role: role, RoleID: strings.Repeat("A", 33)},
	} {
		if s, err := a.Mint(c, time.Hour); err == nil {
			t.Errorf("%v got %v", c, s)
		}
	}
}

func TestTheTokenCacheIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	a := mustLoad(t, Config{Dir: t.TempDir()})
	mint := func() (string, string) {
		s, err := a.Mint(Grant{Account: "123456789012", Name: "f", Role: role}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return s.AccessKeyID, s.SessionToken.Reveal()
	}
	id, token := mint()
	for i := range 5 * cacheHalf {
		for _, pair := range [][2]string{{id, token}, func() [2]string { i, t := mint(); return [2]string{i, t} }()} {
			if _, _, err := a.Lookup(pair[0], pair[1]); err != nil {
				t.Fatal(err)
			}
		}
		c := &a.sessions.cache
		if n := len(c.young) + len(c.old); n > 2*cacheHalf {
			t.Fatalf("%d tokens after %d", n, i)
		}
	}
	if _, young := a.sessions.cache.young[token]; !young && a.sessions.cache.old[token] == nil {
		t.Error("a token in use was dropped")
	}
}

func TestSealedTextOpensOnlyForWhatItBelongsTo(t *testing.T) {
	dir := t.TempDir()
	key := mustLoad(t, Config{Dir: dir}).Key()
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		to := []byte(rapid.String().Draw(t, "to"))
		sealed, err := key.Seal(plain, to)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := key.Open(sealed, to); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%q %v", got, err)
		}
		if _, err := key.Open(sealed, append(to, 'x')); err != ErrSealed {
			t.Fatalf("opened for another: %v", err)
		}
		sealed[rapid.IntRange(0, len(sealed)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := key.Open(sealed, to); err != ErrSealed {
			t.Fatalf("opened although changed: %v", err)
		}
	})
	sealed, err := key.Seal([]byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := mustLoad(t, Config{Dir: dir}).Key().Open(sealed, nil); string(got) != "secret" || err != nil {
		t.Errorf("after a restart: %q %v", got, err)
	}
}

func TestNothingPrintsASecret(t *testing.T) {
	a := mustLoad(t, Config{Dir: t.TempDir()})
	s, err := a.Mint(Grant{Account: "123456789012", Name: "f", Role: role}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, v := range []any{a, *a.Key(), a.Key(), a.Root(), s, &s, s.SecretAccessKey, []Secret{s.SessionToken}, map[string]Secret{"x": s.SecretAccessKey}, struct{ hidden Session }{s}, Secret{}} {
		for _, verb := range []string{"%v", "%+v", "%s", "%q", "%x", "%#v", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(j)
	}
	for _, secret := range []Secret{a.root.SecretAccessKey, s.SecretAccessKey, s.SessionToken} {
		for _, shown := range []string{secret.Reveal(), fmt.Sprintf("%x", secret.Reveal())} {
			if strings.Contains(out.String(), shown) {
				t.Error("a secret was shown")
			}
		}
	}
	if !strings.Contains(out.String(), redacted) {
		t.Error("nothing was redacted")
	}
}

func FuzzSessionToken(f *testing.F) {
	a := mustLoad(f, Config{Dir: f.TempDir()})
	s, err := a.Mint(Grant{Account: "123456789012", Name: "f", Role: role}, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.AccessKeyID, s.SessionToken.Reveal())
	f.Add(s.AccessKeyID, "")
	f.Add("AKIA", "AAAA")
	f.Fuzz(func(t *testing.T, id, token string) {
		secret, who, err := a.Lookup(id, token)
		switch known := id == s.AccessKeyID && token == s.SessionToken.Reveal() || id == a.root.AccessKeyID && token == ""; {
		case known != (err == nil), (secret == "") != (err != nil):
			t.Errorf("%q %q: %v %v", id, token, who, err)
		}
	})
}

func FuzzClaims(f *testing.F) {
	f.Add((&claims{Grant{Account: "123456789012", Role: role, RoleID: "AROAX", Name: "f", Tags: "a=1", Source: "ann"}, 1, 2}).encode())
	f.Add((&claims{Grant{Account: "123456789012", User: "arn:aws:iam::123456789012:user/a", UserID: "AIDAX", Policy: "{}"}, 1, 2}).encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := decodeClaims(oldToken, b); err == nil && c.check() != nil {
			t.Fatalf("an old token of %+v is read", c)
		}
		c, err := decodeClaims(tokenVersion, b)
		if err == nil && (!bytes.Equal(c.encode(), b) || c.check() != nil) {
			t.Errorf("%x became %+v", b, c)
		}
	})
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte(`{"version":1,"account":"000000000000","region":"us-east-1","accessKeyId":"AKIAAAAAAAAAAAAAAAAA","secretAccessKey":"0123456789012345678901234567890123456789"}`))
	f.Add([]byte(`{"version":1,"key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if root, err := decodeRoot(b); err == nil && (len(root.Account) != 12 || len(root.SecretAccessKey.Reveal()) != 40) {
			t.Errorf("%q became %+v", b, root)
		}
		if keys, err := decodeMasters(b); err == nil {
			for _, key := range keys {
				if len(key) != keySize {
					t.Errorf("%q became a key of %d bytes", b, len(key))
				}
			}
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	a := mustLoad(b, Config{Dir: b.TempDir()})
	s, err := a.Mint(Grant{Account: "123456789012", Name: "f", Role: role}, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("root", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = a.Lookup(a.root.AccessKeyID, "")
		}
	})
	b.Run("session", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = a.Lookup(s.AccessKeyID, s.SessionToken.Reveal())
		}
	})
	b.Run("mint", func(b *testing.B) {
		for b.Loop() {
			_, _ = a.Mint(Grant{Account: "123456789012", Name: "f", Role: role}, time.Hour)
		}
	})
}

// A session that a server of before made is let in by this one.
func TestTokensOfBeforeAreRead(t *testing.T) {
	now := newClock()
	a := mustLoad(t, Config{Dir: t.TempDir(), Account: "123456789012", Clock: now})
	for version, shorter := range map[byte]int{plainToken: 11, oldToken: 16} { // by what it does not have, all of it empty
		c := claims{Grant{Account: "123456789012", Role: role, RoleID: "AROAX", Name: "f"}, now.now.Add(time.Hour).Unix(), 0}
		b := c.encode()
		sealed, err := seal(a.sessions.keys.Load().current.aead, a.sessions.rand, version, b[:len(b)-shorter], nil)
		if err != nil {
			t.Fatal(err)
		}
		id, _ := a.sessions.keys.Load().current.derive(sealed, c.Account)
		_, who, err := a.Lookup(id, base64.StdEncoding.EncodeToString(sealed))
		if err != nil || who.Role != role || who.UserID != "AROAX:f" || who.Issued != 0 {
			t.Errorf("version %d: %+v, %v", version, who, err)
		}
	}
}

// A session tells when it was made, its tags and its source.
func TestASessionCarriesWhatItWasGiven(t *testing.T) {
	now := newClock()
	a := mustLoad(t, Config{Dir: t.TempDir(), Account: "123456789012", Clock: now})
	s, err := a.Mint(Grant{Account: "123456789012", Role: role, Name: "s", Tags: "a=1&b=2", Source: "ann"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, who, err := a.Lookup(s.AccessKeyID, s.SessionToken.Reveal())
	if err != nil || who != s.Identity || who.Issued != now.now.Unix() || who.Tags != "a=1&b=2" || who.Source != "ann" {
		t.Errorf("%+v, %v", who, err)
	}
	for _, g := range []Grant{
		{Account: "123456789012", Role: role, Name: "s", Tags: strings.Repeat("a", MaxTags+1)},
		{Account: "123456789012", Role: role, Name: "s", Source: strings.Repeat("a", maxSource+1)},
		{Account: "123456789012", Tags: "a=1"}, // of root
	} {
		if _, err := a.Mint(g, time.Hour); err == nil {
			t.Errorf("%+v is made", g)
		}
	}
}

// directory is accounts with one key each.
type directory struct {
	keys  map[string]hearth.Identity
	state map[hearth.Account]error
}

func (d directory) FindKey(id string) (string, hearth.Identity, bool) {
	who, ok := d.keys[id]
	return "secret of " + id, who, ok
}
func (d directory) Usable(a hearth.Account) error { return d.state[a] }
func (d directory) Accounts() (all []hearth.Account) {
	for a := range d.state {
		all = append(all, a)
	}
	return all
}

func TestTheAuthorityAnswersForAllAccounts(t *testing.T) {
	now := newClock()
	a := mustLoad(t, Config{Dir: t.TempDir(), Account: "123456789012", Clock: now})
	theirs := hearth.Identity{Account: "111122223333", ARN: "arn:aws:iam::111122223333:root", UserID: "111122223333"}
	d := directory{keys: map[string]hearth.Identity{"AKIATHEIRS": theirs}, state: map[hearth.Account]error{"123456789012": nil, "111122223333": nil}}
	a.Consult(d)
	if secret, who, err := a.Lookup("AKIATHEIRS", ""); err != nil || who != theirs || secret != "secret of AKIATHEIRS" {
		t.Errorf("%+v, %v", who, err)
	}
	s, err := a.Mint(Grant{Account: "111122223333", User: "arn:aws:iam::111122223333:user/p/ann", UserID: "AIDAX", Policy: `{"x":1}`}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	want := hearth.Identity{Account: "111122223333", ARN: "arn:aws:iam::111122223333:user/p/ann", UserID: "AIDAX", Policy: `{"x":1}`, Issued: now.now.Unix()}
	if _, who, err := a.Lookup(s.AccessKeyID, s.SessionToken.Reveal()); err != nil || who != want {
		t.Errorf("%+v, %v", who, err)
	}
	for _, key := range []string{"AKIATHEIRS", s.AccessKeyID} {
		if account, ok := a.AccountOf(key); !ok || account != "111122223333" {
			t.Errorf("%s is of %s, %v", key, account, ok)
		}
	}
	suspended := hearth.Errorf(hearth.AccessDenied, "suspended")
	d.state["111122223333"], d.state["123456789012"] = suspended, suspended
	if _, _, err := a.Lookup("AKIATHEIRS", ""); !errors.Is(err, suspended) {
		t.Errorf("a key of a suspended account: %v", err)
	}
	if _, _, err := a.Lookup(s.AccessKeyID, s.SessionToken.Reveal()); !errors.Is(err, suspended) {
		t.Errorf("a session of a suspended account: %v", err)
	}
	if _, _, err := a.Lookup(a.Root().AccessKeyID, ""); err != nil {
		t.Errorf("the operator's first key: %v", err)
	}
}
