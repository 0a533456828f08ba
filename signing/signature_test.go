package signing

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	ctx   = context.Background()
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// entry is a file of an archive in a test.
type entry struct {
	name, text string
	mode       fs.FileMode
}

func zipOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		h.SetMode(e.mode)
		f, err := w.CreateHeader(h)
		if err == nil {
			_, err = io.WriteString(f, e.text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func entriesOf(t testing.TB, archive []byte) (entries []entry) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, entry{f.Name, string(text), f.Mode()})
	}
	return entries
}

// publisher is a profile with its key.
type publisher struct {
	profiles Profiles
	arn      string
	request  Request
}

func newPublisher(t testing.TB) publisher {
	t.Helper()
	p := publisher{profiles: Profiles{Dir: t.TempDir() + "/" + FolderName, Account: "111111111111", Region: "us-east-1"}}
	secret, cert, err := NewKey("team", start, 365*24*time.Hour)
	if err == nil {
		p.arn, err = p.profiles.Add("team", cert)
	}
	key, kerr := ParseKey(secret)
	if err = errors.Join(err, kerr); err != nil {
		t.Fatal(err)
	}
	p.request = Request{Profile: p.arn, Account: "111111111111", Region: "us-east-1", Key: key, Now: start, Valid: time.Hour}
	return p
}

func (p publisher) sign(t testing.TB, archive []byte) []byte {
	t.Helper()
	signed, err := Sign(ctx, archive, p.request)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func (p publisher) verify(archive []byte, now time.Time, allowed ...string) (Claims, error) {
	return p.profiles.Verify(ctx, bytes.NewReader(archive), int64(len(archive)), allowed, now)
}

var code = []entry{{"index.py", "def handler(e, c): return e", 0o644}, {"bin/tool", "\x7fELF", 0o755}, {"lib/", "", fs.ModeDir | 0o755}}

func TestASignedArchiveIsVerifiedAndSaysByWhom(t *testing.T) {
	p := newPublisher(t)
	signed := p.sign(t, zipOf(t, code...))
	claims, err := p.verify(signed, start.Add(time.Hour), "other", p.arn)
	if err != nil || claims.ProfileVersion != p.arn || !strings.HasPrefix(claims.Job, "arn:aws:signer:us-east-1:111111111111:/signing-jobs/") {
		t.Fatalf("%+v %v", claims, err)
	}
	if again := p.sign(t, signed); len(entriesOf(t, again)) != len(code)+1 {
		t.Error("a second signature is beside the first")
	} else if _, err := p.verify(again, start, p.arn); err != nil {
		t.Error(err)
	}
}

func TestAnEd25519KeyOfOnesOwnSignsToo(t *testing.T) {
	p := newPublisher(t)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "own"}, NotBefore: start, NotAfter: start.Add(time.Hour)},
		&x509.Certificate{Subject: pkix.Name{CommonName: "own"}}, public, private)
	if err != nil {
		t.Fatal(err)
	}
	if p.request.Profile, err = p.profiles.Add("own", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		t.Fatal(err)
	}
	p.request.Key = private
	if _, err := p.verify(p.sign(t, zipOf(t, code...)), start, p.request.Profile); err != nil {
		t.Error(err)
	}
}

// TestNoChangeOfASignedArchiveGoesUnnoticed changes one thing of what would be
// unpacked.
func TestNoChangeOfASignedArchiveGoesUnnoticed(t *testing.T) {
	p := newPublisher(t)
	signed := entriesOf(t, p.sign(t, zipOf(t, code...)))
	rapid.Check(t, func(rt *rapid.T) {
		changed := slices.Clone(signed)
		i := rapid.IntRange(0, len(code)-1).Draw(rt, "entry")
		switch e := &changed[i]; rapid.IntRange(0, 6).Draw(rt, "change") {
		case 0:
			if strings.HasSuffix(e.name, "/") {
				return
			}
			e.text += rapid.StringN(1, 5, 9).Draw(rt, "more")
		case 1:
			e.name = "x" + e.name
		case 2:
			e.mode ^= 0o111
		case 3:
			changed = slices.Delete(changed, i, i+1)
		case 4:
			changed = append(changed, entry{"extra", rapid.String().Draw(rt, "text"), 0o644})
		case 5:
			changed[0], changed[1] = changed[1], changed[0]
		case 6: // a byte goes from a name to the content that follows it
			if strings.HasSuffix(e.name, "/") {
				return
			}
			e.name, e.text = e.name[:len(e.name)-1], e.name[len(e.name)-1:]+e.text
		}
		if _, err := p.verify(zipOf(t, changed...), start, p.arn); !errors.Is(err, ErrTampered) {
			rt.Fatalf("%+v: %v", changed, err)
		}
	})
}

func TestAForgedSignatureIsNoSignature(t *testing.T) {
	p, thief := newPublisher(t), newPublisher(t)
	// Another's key for this profile.
	thief.request.Profile = p.arn
	if _, err := p.verify(thief.sign(t, zipOf(t, code...)), start, p.arn); !errors.Is(err, ErrTampered) {
		t.Errorf("another's key: %v", err)
	}
	// A certificate of another's in the place of the profile's.
	own, err := os.ReadFile(thief.profiles.path("team", strings.TrimPrefix(thief.arn, thief.profiles.ARN("team", ""))))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.profiles.path("team", strings.TrimPrefix(p.arn, p.profiles.ARN("team", ""))), own, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.verify(thief.sign(t, zipOf(t, code...)), start, p.arn); !errors.Is(err, ErrUntrusted) {
		t.Errorf("another's certificate: %v", err)
	}
}

func TestWhatIsNotTrustedIsToldApart(t *testing.T) {
	p := newPublisher(t)
	plain := zipOf(t, code...)
	signed := p.sign(t, plain)
	for _, c := range []struct {
		what    string
		archive []byte
		now     time.Time
		allowed string
		want    error
	}{
		{"unsigned", plain, start, p.arn, ErrUnsigned},
		{"another form", zipOf(t, append(slices.Clone(code), entry{File, "-----BEGIN PKCS7-----", 0o644})...), start, p.arn, ErrForeign},
		{"not allowed", signed, start, "other", ErrUntrusted},
		{"too late", signed, start.Add(time.Hour + time.Second), p.arn, ErrExpired},
	} {
		if _, err := p.verify(c.archive, c.now, c.allowed); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	list, err := p.profiles.List()
	if err != nil || len(list) != 1 || list[0].ARN != p.arn {
		t.Errorf("%+v %v", list, err)
	}
	if err := p.profiles.Remove(p.arn); err != nil {
		t.Fatal(err)
	}
	if _, err := p.verify(signed, start, p.arn); !errors.Is(err, ErrUntrusted) {
		t.Errorf("after the profile was removed: %v", err)
	}
	if err := p.profiles.Remove(p.arn); !errors.Is(err, ErrUntrusted) {
		t.Errorf("removed twice: %v", err)
	}
	for _, arn := range []string{"", "arn:aws:signer:us-east-1:111111111111:/signing-profiles/../x", p.arn + "/x", strings.Replace(p.arn, "us-east-1", "eu-west-1", 1)} {
		if _, err := p.profiles.Certificate(arn); !errors.Is(err, ErrUntrusted) {
			t.Errorf("%q: %v", arn, err)
		}
	}
}

func TestATamperedArchiveIsTamperedWhoeverIsAllowed(t *testing.T) {
	p := newPublisher(t)
	signed := entriesOf(t, p.sign(t, zipOf(t, code...)))
	signed[0].text = "evil"
	if _, err := p.verify(zipOf(t, signed...), start, "other"); !errors.Is(err, ErrTampered) {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"hearth":1,"payload":"e30=","signature":"AA=="}`))
	f.Add([]byte("-----BEGIN PKCS7-----"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if e, _, ok := decode(text); ok && e.Hearth != envelopeVersion {
			t.Error("another version is taken")
		}
	})
}

func FuzzParse(f *testing.F) {
	_, cert, err := NewKey("team", start, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cert)
	f.Fuzz(func(t *testing.T, text []byte) {
		if cert, err := parseCertificate(text); err == nil && usable(cert) != nil {
			t.Error("a certificate that cannot verify is taken")
		}
		_, _ = ParseKey(text)
	})
}
