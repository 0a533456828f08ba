package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// keySize is the length of the master key and of those derived from it.
const keySize = 32

// Key seals secrets at rest with AES-256-GCM: by the newest data key, and opens
// what those before it have sealed, as long as they are kept. Which keys these
// are changes with a rotation. Safe for concurrent use.
type Key struct {
	purpose string
	set     atomic.Pointer[keySet]
	rand    io.Reader
}

// keySet is the data keys of a moment, for one purpose.
type keySet struct {
	current uint32
	aeads   map[uint32]cipher.AEAD // by generation
}

// sealVersion is the first byte of what Seal makes with the first generation's
// key; a change of cipher gets another one.
const sealVersion = 1

// derive gives the key for one purpose, so that no two uses of the master key
// meet in one cipher.
func derive(master []byte, purpose string) ([]byte, error) {
	return hkdf.Key(sha256.New, master, nil, "hearth "+purpose, keySize)
}

func newAEAD(master []byte, purpose string) (cipher.AEAD, error) {
	key, err := derive(master, purpose)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Seal encrypts plain. The result opens only with the same associated data,
// which says what the secret belongs to, such as an account and a function.
func (k *Key) Seal(plain, associated []byte) ([]byte, error) {
	set := k.set.Load()
	sealed, err := seal(set.aeads[set.current], k.rand, sealVersion, plain, associated)
	if err != nil || set.current == 1 {
		return sealed, err
	}
	return append(appendGeneration(make([]byte, 0, 4+len(sealed)), set.current), sealed[1:]...), nil
}

// Generation is that of the data key that sealed the text, by what it says.
func Generation(sealed []byte) uint32 {
	if len(sealed) > 5 && sealed[0] == generational {
		return binary.BigEndian.Uint32(sealed[1:])
	}
	return 1
}

// Current is the generation of the data key that seals now.
func (k *Key) Current() uint32 { return k.set.Load().current }

// Again seals what an older data key has sealed by the current one. It is nil
// of what the current one has sealed. Errors: ErrSealed.
func (k *Key) Again(sealed, associated []byte) ([]byte, error) {
	if Generation(sealed) == k.Current() {
		return nil, nil
	}
	plain, err := k.Open(sealed, associated)
	if err != nil {
		return nil, err
	}
	return k.Seal(plain, associated)
}

// ErrSealed says that a sealed text is damaged, was made with another key, or
// belongs to something else. It does not tell which.
var ErrSealed = errors.New("the sealed text does not open with this key")

// Open decrypts what Seal made. Any failure is ErrSealed.
func (k *Key) Open(sealed, associated []byte) ([]byte, error) {
	generation := Generation(sealed)
	if generation != 1 {
		sealed = append([]byte{sealVersion}, sealed[5:]...)
	}
	aead := k.set.Load().aeads[generation]
	if aead == nil {
		return nil, ErrSealed
	}
	return unseal(aead, sealVersion, sealed, associated)
}

// Format does not show the key.
func (*Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// seal makes version, nonce and ciphertext. The nonces are random, which AES-
// GCM bears for 2^32 texts under one key.
func seal(aead cipher.AEAD, rand io.Reader, version byte, plain, associated []byte) ([]byte, error) {
	out := make([]byte, 1+aead.NonceSize(), 1+aead.NonceSize()+len(plain)+aead.Overhead())
	out[0] = version
	if _, err := io.ReadFull(rand, out[1:]); err != nil {
		return nil, fmt.Errorf("identity: read random bytes: %w", err)
	}
	return aead.Seal(out, out[1:], plain, associated), nil
}

func unseal(aead cipher.AEAD, version byte, sealed, associated []byte) ([]byte, error) {
	n := 1 + aead.NonceSize()
	if len(sealed) < n+aead.Overhead() || sealed[0] != version {
		return nil, ErrSealed
	}
	plain, err := aead.Open(nil, sealed[1:n], sealed[n:], associated)
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}
