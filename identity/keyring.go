package identity

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-faas/hearth"
)

// KeysFolder is the folder of the customer keys in the data folder.
const KeysFolder = "keys"

// Keyring are the keys that the server's owner made for functions that shall
// not share the server's own: what KMS keys are to the service. Each is a file
// of its own, mode 0600, whose key is sealed by the master key. What a key
// protects has a random data key of its own, which the key seals.
//
// The files are read at each use, so that what hearth keys does to them counts
// at once. Safe for concurrent use, also by several processes.
type Keyring struct {
	dir     string
	account hearth.Account // the operator's
	region  string
	master  *Key
	rand    io.Reader
}

// KeyInfo tells of a key what is not secret.
type KeyInfo struct {
	ARN         string    `json:"arn"`
	Description string    `json:"description,omitempty"`
	Created     time.Time `json:"created"`
	Enabled     bool      `json:"enabled"`
}

// keyJSON is the content of a key's file.
type keyJSON struct {
	Version     int       `json:"version"`
	Description string    `json:"description,omitempty"`
	Created     time.Time `json:"created"`
	Enabled     bool      `json:"enabled"`
	Key         []byte    `json:"key"` // sealed
	// Account is whose the key is; "" is the operator's.
	Account hearth.Account `json:"account,omitempty"`
}

func (r *Keyring) arn(account hearth.Account, id string) string {
	if account == "" {
		account = r.account
	}
	return "arn:aws:kms:" + r.region + ":" + string(account) + ":key/" + id
}

var keyIDOf = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// id is what a key's ARN names; false if it is not one.
func (r *Keyring) id(arn string) (string, bool) {
	_, id, ok := strings.Cut(arn, ":key/")
	return id, ok && keyIDOf.MatchString(id)
}

func (r *Keyring) file(id string) string { return id + ".json" }

// readFile reads the file of a key's id; an error that is fs.ErrNotExist says
// that there is none.
func (r *Keyring) readFile(id string) (k keyJSON, err error) {
	data, err := os.ReadFile(filepath.Join(r.dir, r.file(id)))
	if err == nil {
		if err = decode(data, &k, &k.Version); err != nil {
			err = fmt.Errorf("the key %s: %w", id, err)
		}
	}
	return k, err
}

// read reads the file of the key with an ARN.
func (r *Keyring) read(arn string) (k keyJSON, id string, err error) {
	id, ok := r.id(arn)
	if !ok {
		return k, "", keyMissing(arn)
	}
	if k, err = r.readFile(id); errors.Is(err, fs.ErrNotExist) {
		return k, "", keyMissing(arn)
	}
	if err != nil {
		return k, "", err
	}
	if r.arn(k.Account, id) != arn { // of another account or region
		return keyJSON{}, "", keyMissing(arn)
	}
	return k, id, nil
}

func keyMissing(arn string) error {
	return hearth.Errorf(hearth.KMSNotFound, "Lambda was unable to decrypt the environment variables because the KMS key was not found. Please check the function's KMS key settings. KMS Exception: NotFoundException KMS Message: Key '%s' does not exist", arn)
}

func keyDisabled(arn string) error {
	return hearth.Errorf(hearth.KMSDisabled, "Lambda was unable to decrypt the environment variables because the KMS key used is disabled. Please check the function's KMS key settings. KMS Exception: DisabledException KMS Message: %s is disabled.", arn)
}

// Check tells whether the key can be used. Errors: KMSNotFound, KMSDisabled.
func (r *Keyring) Check(arn string) error {
	k, _, err := r.read(arn)
	if err == nil && !k.Enabled {
		err = keyDisabled(arn)
	}
	return err
}

// cipher is the key's own.
func (r *Keyring) cipher(k keyJSON, id string) (cipher.AEAD, error) {
	key, err := r.master.Open(k.Key, []byte("key "+id))
	if err != nil {
		return nil, fmt.Errorf("the key %s: %w", id, err)
	}
	return rawAEAD(key)
}

func rawAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Seal encrypts plain as Key.Seal does, under a new data key that the key with
// the ARN seals. Errors: KMSNotFound, KMSDisabled.
func (r *Keyring) Seal(arn string, plain, associated []byte) ([]byte, error) {
	k, id, err := r.read(arn)
	if err == nil && !k.Enabled {
		err = keyDisabled(arn)
	}
	if err != nil {
		return nil, err
	}
	own, err := r.cipher(k, id)
	if err != nil {
		return nil, err
	}
	data := make([]byte, keySize)
	if _, err := io.ReadFull(r.rand, data); err != nil {
		return nil, fmt.Errorf("identity: read random bytes: %w", err)
	}
	sealedData, err := seal(own, r.rand, sealVersion, data, associated)
	if err != nil {
		return nil, err
	}
	aead, err := rawAEAD(data)
	if err != nil {
		return nil, err
	}
	sealed, err := seal(aead, r.rand, sealVersion, plain, associated)
	if err != nil {
		return nil, err
	}
	out := binary.BigEndian.AppendUint16(nil, uint16(len(sealedData)))
	return append(append(out, sealedData...), sealed...), nil
}

// Open decrypts what Seal made with the key, whether or not it is enabled:
// whoever uses what comes of it Checks. Errors: KMSNotFound, ErrSealed.
func (r *Keyring) Open(arn string, sealed, associated []byte) ([]byte, error) {
	k, id, err := r.read(arn)
	if err != nil {
		return nil, err
	}
	own, err := r.cipher(k, id)
	if err != nil {
		return nil, err
	}
	if len(sealed) < 2 {
		return nil, ErrSealed
	}
	n := int(binary.BigEndian.Uint16(sealed))
	if sealed = sealed[2:]; len(sealed) < n {
		return nil, ErrSealed
	}
	data, err := unseal(own, sealVersion, sealed[:n], associated)
	if err != nil {
		return nil, err
	}
	aead, err := rawAEAD(data)
	if err != nil {
		return nil, ErrSealed
	}
	return unseal(aead, sealVersion, sealed[n:], associated)
}

// Create makes a key of an account; "" is the operator's.
func (r *Keyring) Create(account hearth.Account, description string, now time.Time) (KeyInfo, error) {
	if account == r.account {
		account = ""
	}
	if account != "" && !accountShape.MatchString(string(account)) {
		return KeyInfo{}, fmt.Errorf("%.20q is no account: it is twelve digits", account)
	}
	id, err := uuid.NewRandomFromReader(r.rand)
	if err != nil {
		return KeyInfo{}, err
	}
	key := make([]byte, keySize)
	if _, err := io.ReadFull(r.rand, key); err != nil {
		return KeyInfo{}, err
	}
	k := keyJSON{Version: fileVersion, Description: description, Created: now.UTC().Truncate(time.Second), Enabled: true, Account: account}
	if k.Key, err = r.master.Seal(key, []byte("key "+id.String())); err != nil {
		return KeyInfo{}, err
	}
	return r.info(id.String(), k), r.write(id.String(), k)
}

func (r *Keyring) info(id string, k keyJSON) KeyInfo {
	return KeyInfo{r.arn(k.Account, id), k.Description, k.Created, k.Enabled}
}

func (r *Keyring) write(id string, k keyJSON) error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	data, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return writeNew(r.dir, r.file(id), append(data, '\n'))
}

// Enable lets the key be used, or not. Errors: KMSNotFound.
func (r *Keyring) Enable(arn string, enabled bool) error {
	k, id, err := r.read(arn)
	if err != nil || k.Enabled == enabled {
		return err
	}
	k.Enabled = enabled
	return r.write(id, k)
}

// List returns the keys in the order of their ARNs.
func (r *Keyring) List() (all []KeyInfo, err error) {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !keyIDOf.MatchString(id) {
			continue
		}
		k, err := r.readFile(id)
		if err != nil {
			return nil, err
		}
		all = append(all, r.info(id, k))
	}
	slices.SortFunc(all, func(a, b KeyInfo) int { return strings.Compare(a.ARN, b.ARN) })
	return all, err
}

// Format shows where the keys are and none of them.
func (r *Keyring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "keys in "+r.dir) }

// OpenKeyring opens the keyring of a data folder that a server has started in.
// It needs no server, and not the folder's lock: its files are written whole. A
// server that runs removes no data key until close is called. masterKey is the
// file of the master key.
func OpenKeyring(dir, masterKey string) (_ *Keyring, close func(), err error) {
	root, err := ReadRoot(dir)
	if err != nil {
		return nil, nil, err
	}
	unlock, err := lockKeys(dir, syscall.LOCK_SH)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	data, err := OpenDataKeys(dir, masterKey)
	if err != nil {
		return nil, nil, err
	}
	keys, err := newKeyring(dir, root, data)
	return keys, unlock, err
}

// errKeysInUse says that another process works with the data keys.
var errKeysInUse = errors.New("another process works with the keys")

// keysWait bounds how long another who works with the keys is waited for.
const keysWait = 5 * time.Second

// lockKeys keeps others from removing data keys, or with LOCK_EX from using
// them, who are not this process: it locks the folder's own file.
func lockKeys(dir string, how int) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(keysWait); ; time.Sleep(10 * time.Millisecond) {
		err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // the lock goes with it
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(end) {
			break
		}
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errKeysInUse
	}
	return nil, err
}

// Reseal gives visit each key's text as it is sealed, and puts what that returns
// in its place, unless it is nil.
func (r *Keyring) Reseal(ctx context.Context, visit func(sealed, associated []byte) ([]byte, error), _ func(context.Context) error) error {
	unlock, err := lockKeys(filepath.Dir(r.dir), syscall.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	all, err := r.List()
	if err != nil {
		return err
	}
	for _, info := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, id, err := r.read(info.ARN)
		if err != nil {
			return err
		}
		again, err := visit(k.Key, []byte("key "+id))
		if err != nil {
			return err
		}
		if again == nil {
			continue
		}
		k.Key = again
		if err := r.write(id, k); err != nil {
			return err
		}
	}
	return nil
}

// Sealing is the key that seals the keys.
func (r *Keyring) Sealing() *Key { return r.master }

func newKeyring(dir string, root Root, data *DataKeys) (*Keyring, error) {
	master, err := data.key("customer keys")
	if err != nil {
		return nil, err
	}
	return &Keyring{dir: filepath.Join(dir, KeysFolder), account: root.Account, region: root.Region, master: master, rand: data.rand}, nil
}
