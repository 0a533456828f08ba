package identity

import (
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// DataKeysFile is the file of the data keys in the data folder.
const DataKeysFile = "datakeys.json"

// DataKeys are the keys that everything in the data folder is sealed with: of
// each generation one, sealed by the master key. The newest seals what is new;
// the older ones open what they have sealed.
//
// In folders from before there were data keys, the master key of then is the
// first generation's.
type DataKeys struct {
	dir, place string
	master     []byte
	file       dataKeysJSON
	keys       map[uint32][]byte
	rand       io.Reader
	leftover   masters // in the master key's file, and in no use
}

// dataKeysJSON is the content of DataKeysFile.
type dataKeysJSON struct {
	Version int           `json:"version"`
	Master  string        `json:"master"` // the id of the key that seals the others
	Current uint32        `json:"current"`
	Keys    []dataKeyJSON `json:"keys"`
}

type dataKeyJSON struct {
	Generation uint32    `json:"generation"`
	Created    time.Time `json:"created,omitzero"`
	Sealed     []byte    `json:"sealed,omitempty"` // absent: it is the master key itself
}

func dataKeyName(generation uint32) []byte { return fmt.Appendf(nil, "data key %d", generation) }

// openDataKeys reads the data keys of dir with the master key in the file
// place. An error that is fs.ErrNotExist says that there is no such file.
func openDataKeys(dir, place string, random io.Reader, log *slog.Logger) (*DataKeys, error) {
	all, err := readMasters(place, log)
	if err != nil {
		return nil, err
	}
	d := &DataKeys{dir: dir, place: place, rand: random}
	path := filepath.Join(dir, DataKeysFile)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		id, ok := all.one()
		if !ok {
			return nil, fmt.Errorf("%s has several keys, and %s, which says which of them counts, is gone: restore it from a backup", place, path)
		}
		d.file = dataKeysJSON{Version: fileVersion, Master: id, Current: 1, Keys: []dataKeyJSON{{Generation: 1}}}
	case err != nil:
		return nil, err
	default:
		if err := decode(data, &d.file, &d.file.Version); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	master, ok := all[d.file.Master]
	if !ok {
		id, _ := all.one()
		return nil, fmt.Errorf("the secrets in %s are sealed with the master key %s, and %s has %s: name the file of the right one with --master-key-file", dir, d.file.Master, place, id)
	}
	d.master = master
	delete(all, d.file.Master)
	d.leftover = all
	return d, d.unseal(path)
}

// unseal fills in the keys.
func (d *DataKeys) unseal(path string) error {
	aead, err := newAEAD(d.master, "data keys")
	if err != nil {
		return err
	}
	d.keys = map[uint32][]byte{}
	for _, k := range d.file.Keys {
		key := d.master
		if k.Sealed != nil {
			if key, err = unseal(aead, sealVersion, k.Sealed, dataKeyName(k.Generation)); err != nil {
				return fmt.Errorf("%s: generation %d: %w", path, k.Generation, err)
			}
		}
		if len(key) != keySize || k.Generation == 0 || d.keys[k.Generation] != nil {
			return fmt.Errorf("%s: the file is damaged: generation %d is not a key", path, k.Generation)
		}
		d.keys[k.Generation] = key
	}
	if d.keys[d.file.Current] == nil {
		return fmt.Errorf("%s: the file is damaged: it has no generation %d, which is to be current", path, d.file.Current)
	}
	return nil
}

// settle writes what a first start, or the first since there are data keys, has
// found, and ends a rotation that was interrupted. The data folder's lock is
// held.
func (d *DataKeys) settle() error {
	if !exists(filepath.Join(d.dir, DataKeysFile)) {
		if err := d.write(); err != nil {
			return err
		}
	}
	if len(d.leftover) == 0 {
		return nil
	}
	// The other keys are of a rotation that ended before this file was written
	// anew, or before it had begun: nothing is sealed with them.
	if err := writeMasters(d.place, masters{d.file.Master: d.master}); err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
			return nil // it is for whoever keeps it to clean up; it opens the same
		}
		return err
	}
	d.leftover = nil
	return nil
}

func (d *DataKeys) write() error {
	data, err := json.MarshalIndent(d.file, "", "  ")
	if err != nil {
		return err
	}
	return writeNew(d.dir, DataKeysFile, append(data, '\n'))
}

// current is the key that new things are made with.
func (d *DataKeys) current() []byte { return d.keys[d.file.Current] }

// key makes the Key for one purpose.
func (d *DataKeys) key(purpose string) (*Key, error) {
	k := &Key{current: d.file.Current, aeads: map[uint32]cipher.AEAD{}, rand: d.rand}
	for generation, key := range d.keys {
		aead, err := newAEAD(key, purpose)
		if err != nil {
			return nil, err
		}
		k.aeads[generation] = aead
	}
	return k, nil
}

// Generation tells of a data key what is not secret.
type Generation struct {
	Generation uint32    `json:"generation"`
	Created    time.Time `json:"created,omitzero"`
	Current    bool      `json:"current"`
}

// MasterInfo tells of a data folder's keys what is not secret.
type MasterInfo struct {
	ID     string `json:"id"`   // of the master key
	File   string `json:"file"` // where it is
	Inside bool   `json:"inside"`
	// DataKeys are the data keys, the oldest first.
	DataKeys []Generation `json:"dataKeys"`
}

// Info tells of the keys what is not secret.
func (d *DataKeys) Info() MasterInfo {
	i := MasterInfo{ID: d.file.Master, File: d.place, Inside: filepath.Dir(d.place) == filepath.Clean(d.dir)}
	for _, k := range d.file.Keys {
		i.DataKeys = append(i.DataKeys, Generation{k.Generation, k.Created, k.Generation == d.file.Current})
	}
	return i
}

// Format shows no key.
func (d *DataKeys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "data keys in "+d.dir) }

// generational is the first byte of what a data key of a later generation than
// the first has sealed; the generation follows, in four bytes.
const generational = 3

func appendGeneration(b []byte, generation uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, generational), generation)
}
