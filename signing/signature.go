// Package signing proves who packed a function's code. A signature is a file
// in the archive, where AWS Signer puts its own; it covers everything else in
// the archive, and is checked against the certificate that the server's owner
// registered for the profile that it names.
package signing

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"
)

// File is where the signature is in an archive.
const File = "META_INF/aws_signer_signature_v1.0.SF"

// What can be wrong with a signature. ErrTampered is never let pass; the rest
// is for the policy of whoever asks.
var (
	ErrUnsigned  = errors.New("the archive is not signed")
	ErrForeign   = errors.New("the signature is of a form that Hearth does not read")
	ErrUntrusted = errors.New("the signing profile is not among the allowed publishers, or is not registered here")
	ErrExpired   = errors.New("the signature has expired")
	ErrTampered  = errors.New("the archive is not what was signed")
)

// maxFile bounds the signature, in bytes.
const maxFile = 64 << 10

// Claims are what a signature says and, once it was verified, what is so.
type Claims struct {
	ProfileVersion string    `json:"profileVersionArn"`
	Job            string    `json:"jobArn"`
	Signed         time.Time `json:"signed"`
	Expires        time.Time `json:"expires"`
	SHA384         string    `json:"sha384"` // of the archive's content, hexadecimal
}

// envelope is the signature's file. Payload is the JSON of Claims exactly as
// it was signed.
type envelope struct {
	Hearth    int    `json:"hearth"` // the version of this form
	Payload   []byte `json:"payload"`
	Signature []byte `json:"signature"`
}

const envelopeVersion = 1

// digest is SHA-384 of everything in the archive but the signature: the name,
// mode and content of each entry in the archive's order, each with its length
// before it, so that no two archives that unpack differently have the same.
// The times of files and how they are compressed are not covered.
func digest(ctx context.Context, z *zip.Reader) (sum []byte, signature *zip.File, err error) {
	h := sha512.New384()
	var frame [8]byte
	number := func(n uint64) {
		binary.BigEndian.PutUint64(frame[:], n)
		h.Write(frame[:])
	}
	seen := map[string]bool{}
	for _, f := range z.File {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if seen[f.Name] {
			return nil, nil, fmt.Errorf("%w: %q is in it twice", ErrTampered, f.Name)
		}
		if seen[f.Name] = true; f.Name == File {
			signature = f
			continue
		}
		number(uint64(len(f.Name)))
		io.WriteString(h, f.Name)
		number(uint64(f.Mode()))
		number(f.UncompressedSize64)
		r, err := f.Open()
		if err != nil {
			return nil, nil, err
		}
		n, err := io.Copy(h, io.LimitReader(r, int64(f.UncompressedSize64)+1))
		if err = errors.Join(err, r.Close()); err != nil {
			return nil, nil, err
		}
		if uint64(n) != f.UncompressedSize64 {
			return nil, nil, fmt.Errorf("%w: the size of %q", ErrTampered, f.Name)
		}
	}
	return h.Sum(nil), signature, nil
}

// Verify checks the signature of the archive of size bytes in r against the
// certificate of its profile, and that the profile is one of allowed. The
// claims are those that were verified. Errors are those of this package, and
// of reading r, which was inspected before (package archive).
func (p Profiles) Verify(ctx context.Context, r io.ReaderAt, size int64, allowed []string, now time.Time) (Claims, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return Claims{}, err
	}
	sum, file, err := digest(ctx, z)
	switch {
	case err != nil:
		return Claims{}, err
	case file == nil:
		return Claims{}, ErrUnsigned
	}
	e, claims, err := read(file)
	if err != nil {
		return Claims{}, err
	}
	if claims.SHA384 != hex.EncodeToString(sum) {
		return Claims{}, ErrTampered
	}
	if !slices.Contains(allowed, claims.ProfileVersion) {
		return Claims{}, ErrUntrusted
	}
	cert, err := p.Certificate(claims.ProfileVersion)
	if err != nil {
		return Claims{}, err
	}
	if !verified(cert.PublicKey, e.Payload, e.Signature) {
		return Claims{}, ErrTampered
	}
	if now.After(claims.Expires) || claims.Signed.Before(cert.NotBefore) || claims.Signed.After(cert.NotAfter) {
		return Claims{}, ErrExpired
	}
	return claims, nil
}

// read takes in the signature's file. What is no signature of Hearth's is
// foreign, not tampered with: somebody else's may be in its place.
func read(file *zip.File) (e envelope, c Claims, err error) {
	if file.UncompressedSize64 > maxFile {
		return e, c, ErrForeign
	}
	r, err := file.Open()
	if err != nil {
		return e, c, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return e, c, err
	}
	e, c, ok := decode(text)
	if !ok {
		return e, c, ErrForeign
	}
	return e, c, nil
}

func decode(text []byte) (e envelope, c Claims, ok bool) {
	if json.Unmarshal(text, &e) != nil || e.Hearth != envelopeVersion {
		return e, c, false
	}
	return e, c, json.Unmarshal(e.Payload, &c) == nil
}

// signedText is what is signed: the payload, after what tells it from all else
// that the key may sign.
func signedText(payload []byte) []byte {
	return append([]byte("hearth code signature 1\n"), payload...)
}

func verified(key crypto.PublicKey, payload, signature []byte) bool {
	text := signedText(payload)
	switch k := key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(k, text, signature)
	case *ecdsa.PublicKey:
		sum := sha512.Sum384(text)
		return ecdsa.VerifyASN1(k, sum[:], signature)
	}
	return false
}

// Request asks for a signature.
type Request struct {
	Profile string // the ARN of a profile's version
	Account string
	Region  string
	Key     crypto.Signer // of the profile's certificate: ECDSA or Ed25519
	Now     time.Time
	Valid   time.Duration
}

// Sign returns the archive with a signature in it, instead of the one that it
// may have.
func Sign(ctx context.Context, archive []byte, q Request) ([]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return nil, err
	}
	sum, _, err := digest(ctx, z)
	if err != nil {
		return nil, err
	}
	job, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(Claims{
		ProfileVersion: q.Profile, Job: "arn:aws:signer:" + q.Region + ":" + q.Account + ":/signing-jobs/" + job.String(),
		Signed: q.Now.UTC().Truncate(time.Second), Expires: q.Now.Add(q.Valid).UTC().Truncate(time.Second), SHA384: hex.EncodeToString(sum),
	})
	if err != nil {
		return nil, err
	}
	e := envelope{Hearth: envelopeVersion, Payload: payload}
	if e.Signature, err = sign(q.Key, payload); err != nil {
		return nil, err
	}
	text, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range z.File {
		if f.Name != File {
			err = errors.Join(err, w.Copy(f))
		}
	}
	f, cerr := w.CreateHeader(&zip.FileHeader{Name: File, Method: zip.Deflate, Modified: q.Now})
	if cerr == nil {
		_, cerr = f.Write(text)
	}
	if err := errors.Join(err, cerr, w.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func sign(key crypto.Signer, payload []byte) ([]byte, error) {
	text := signedText(payload)
	switch key.Public().(type) {
	case ed25519.PublicKey:
		return key.Sign(rand.Reader, text, crypto.Hash(0))
	case *ecdsa.PublicKey:
		sum := sha512.Sum384(text)
		return key.Sign(rand.Reader, sum[:], crypto.SHA384)
	}
	return nil, errUsable
}

var errUsable = errors.New("the key must be an ECDSA or Ed25519 one")

func usable(cert *x509.Certificate) error {
	switch cert.PublicKey.(type) {
	case ed25519.PublicKey, *ecdsa.PublicKey:
		return nil
	}
	return errUsable
}
