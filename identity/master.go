package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// The master key is in a file of its own: in the data folder, or outside of it,
// so that a copy of the folder opens nothing. It seals the data keys (datakeys.go)
// and nothing else, so that it is replaced by sealing those anew.

// CredentialName is the name of the master key among systemd's credentials
// (LoadCredential=hearth-master-key:FILE).
const CredentialName = "hearth-master-key"

// MasterKeyPlace is the file of the master key of the data folder dir: the one
// that was told, else systemd's credential if the service has it, else the one
// in the folder.
func MasterKeyPlace(dir, told string, getenv func(string) string) string {
	if told != "" {
		return told
	}
	if credentials := getenv("CREDENTIALS_DIRECTORY"); credentials != "" {
		if path := filepath.Join(credentials, CredentialName); exists(path) {
			return path
		}
	}
	return filepath.Join(dir, MasterKeyFile)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// masterVersion is the newest version of the file's format: the first has one
// key; the second has several, as between the steps of a rotation.
const masterVersion = 2

// masterJSON is the content of the file.
type masterJSON struct {
	Version int      `json:"version"`
	Key     []byte   `json:"key,omitempty"`
	Keys    [][]byte `json:"keys,omitempty"`
}

// masters are master keys by their ids.
type masters map[string][]byte

// masterID names a master key: it tells nothing of it.
func masterID(key []byte) string {
	sum := sha256.Sum256(append([]byte("hearth master key id:"), key...))
	return hex.EncodeToString(sum[:8])
}

func decodeMasters(data []byte) (masters, error) {
	var m masterJSON
	if err := decodeUpTo(masterVersion, data, &m, &m.Version); err != nil {
		return nil, err
	}
	keys := m.Keys
	if m.Version == 1 {
		keys = [][]byte{m.Key}
	}
	all := masters{}
	for _, key := range keys {
		if len(key) != keySize {
			return nil, errors.New("the file is damaged: its key has another length")
		}
		all[masterID(key)] = key
	}
	if len(all) == 0 {
		return nil, errors.New("the file is damaged: it has no key")
	}
	return all, nil
}

// encode is a file with the keys: of the first version where that suffices, so
// that a Hearth that knows no other can read it.
func (m masters) encode() ([]byte, error) {
	file := masterJSON{Version: 1}
	for _, key := range m {
		file.Key = key
	}
	if len(m) > 1 {
		file = masterJSON{Version: 2}
		for _, key := range m {
			file.Keys = append(file.Keys, key)
		}
		slices.SortFunc(file.Keys, slices.Compare)
	}
	data, err := json.MarshalIndent(file, "", "  ")
	return append(data, '\n'), err
}

func newMaster(random io.Reader) ([]byte, error) {
	key := make([]byte, keySize)
	if _, err := io.ReadFull(random, key); err != nil {
		return nil, fmt.Errorf("identity: read random bytes: %w", err)
	}
	return key, nil
}

// readMasters reads the file; one that others may read is repaired, or refused
// where it can't be: systemd's credentials are read-only, and its own.
func readMasters(path string, log *slog.Logger) (masters, error) {
	data, err := readPrivate(path, log)
	if err != nil {
		return nil, err
	}
	all, err := decodeMasters(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

func writeMasters(path string, m masters) error {
	data, err := m.encode()
	if err != nil {
		return err
	}
	return writeNew(filepath.Dir(path), filepath.Base(path), data)
}

// sweepBeside removes what a crash left of a master key's file that was being
// written: it may have keys in it. A folder that can't be read or changed has
// none from here.
func sweepBeside(place string) error {
	err := sweep(filepath.Dir(place), filepath.Base(place))
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EROFS) {
		return nil
	}
	return err
}

// one is the only key, if there is only one.
func (m masters) one() (id string, ok bool) {
	for id = range m {
	}
	return id, len(m) == 1
}

// loadMaster finds the master key that seals the data folder's data keys, and
// makes both at a first start.
func loadMaster(cfg Config) (*DataKeys, error) {
	place := cfg.MasterKey
	if place == "" {
		place = filepath.Join(cfg.Dir, MasterKeyFile)
	}
	if err := sweepBeside(place); err != nil {
		return nil, err
	}
	d, err := openDataKeys(cfg.Dir, place, cfg.Rand, cfg.Log)
	if !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	// A lost master key cannot be made again: with a new one, nothing that
	// the old one sealed would open.
	if exists(filepath.Join(cfg.Dir, CredentialsFile)) || exists(filepath.Join(cfg.Dir, DataKeysFile)) {
		hint := ""
		if inside := filepath.Join(cfg.Dir, MasterKeyFile); inside != place && exists(inside) {
			hint = fmt.Sprintf(" (there is one in %s: move it there, or take it over with hearth key rotate --to)", inside)
		}
		return nil, fmt.Errorf("the master key %s is gone: restore it from a backup, since secrets are sealed with it%s", place, hint)
	}
	key, err := newMaster(cfg.Rand)
	if err != nil {
		return nil, err
	}
	if err := writeMasters(place, masters{masterID(key): key}); err != nil {
		return nil, fmt.Errorf("the master key can't be made: %w", err)
	}
	return openDataKeys(cfg.Dir, place, cfg.Rand, cfg.Log)
}
