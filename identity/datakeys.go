package identity

import (
	"bytes"
	"cmp"
	"context"
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
	"slices"
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
	log        *slog.Logger
	leftover   masters // in the master key's file, and in no use
	records    Records // nil: the file alone counts
	written    bool    // what write was to write counts from now on
}

// Records keeps a copy of the data keys, which are sealed, beside the records
// that they seal, where those are not in the data folder: what is there counts,
// so that who takes the records over opens them, with the master key alone.
type Records interface {
	// Load returns what Save kept; nil is nothing.
	Load(ctx context.Context) ([]byte, error)
	Save(ctx context.Context, data []byte) error
}

// dataKeysJSON is the content of DataKeysFile.
type dataKeysJSON struct {
	Version int           `json:"version"`
	Master  string        `json:"master"`       // the id of the key that seals the others
	At      string        `json:"at,omitempty"` // the file that a rotation has put it into
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
	data, err := os.ReadFile(filepath.Join(dir, DataKeysFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return parseDataKeys(dir, place, data, random, log)
}

// parseDataKeys is openDataKeys with the content of the file; nil if there is
// none.
func parseDataKeys(dir, place string, data []byte, random io.Reader, log *slog.Logger) (*DataKeys, error) {
	d := &DataKeys{dir: dir, place: place, rand: random, log: log}
	path := filepath.Join(dir, DataKeysFile)
	if data != nil {
		if err := decode(data, &d.file, &d.file.Version); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	all, err := readMasters(place, log)
	if at := d.file.At; at != "" && at != place && all[d.file.Master] == nil {
		if there, aerr := readMasters(at, log); aerr == nil && there[d.file.Master] != nil {
			log.Warn("the master key is where a rotation has put it: name that file with --master-key-file", "file", at, "named", place)
			all, d.place, err = there, at, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if data == nil {
		id, ok := all.one()
		if !ok {
			return nil, fmt.Errorf("%s has several keys, and %s, which says which of them counts, is gone: restore it from a backup", place, path)
		}
		d.file = dataKeysJSON{Version: fileVersion, Master: id, Current: 1, Keys: []dataKeyJSON{{Generation: 1}}}
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

// adopt is the data keys that are kept with the records, and of d those that
// still may have sealed something in the folder.
func (d *DataKeys) adopt(data []byte) (*DataKeys, error) {
	e, err := parseDataKeys(d.dir, d.place, data, d.rand, d.log)
	if err != nil {
		return nil, fmt.Errorf("the records' keys: %w (a rotation on another machine made it: bring it from there)", err)
	}
	e.records = d.records
	aead, err := newAEAD(e.master, "data keys")
	if err != nil {
		return nil, err
	}
	for _, k := range d.file.Keys {
		switch have := e.keys[k.Generation]; {
		case have == nil:
			if k.Sealed, err = seal(aead, d.rand, sealVersion, d.keys[k.Generation], dataKeyName(k.Generation)); err != nil {
				return nil, err
			}
			e.keys[k.Generation] = d.keys[k.Generation]
			e.file.Keys = append(e.file.Keys, k)
		case !bytes.Equal(have, d.keys[k.Generation]):
			d.log.Error("the folder and the records have different data keys; that of the records counts", "generation", k.Generation)
		}
	}
	slices.SortFunc(e.file.Keys, func(a, b dataKeyJSON) int { return cmp.Compare(a.Generation, b.Generation) })
	return e, nil
}

// fresh reads the keys again, as they are on disk and with the records.
func (d *DataKeys) fresh(ctx context.Context) (*DataKeys, error) {
	e, err := openDataKeys(d.dir, d.place, d.rand, d.log)
	if err != nil {
		return nil, err
	}
	e.records = d.records
	if d.records != nil {
		data, err := d.records.Load(ctx)
		if err != nil {
			return nil, err
		}
		if data != nil {
			if e, err = e.adopt(data); err != nil {
				return nil, err
			}
		}
	}
	if !bytes.Equal(e.keys[d.file.Current], d.current()) {
		return nil, fmt.Errorf("%s is not what it was: restore it from a backup", filepath.Join(d.dir, DataKeysFile))
	}
	return e, nil
}

// settle ends a rotation that was interrupted. The data folder's lock is held,
// and what counts is known.
func (d *DataKeys) settle() error {
	// The old master key, if a rotation had just put the new one elsewhere.
	if inside := filepath.Join(d.dir, MasterKeyFile); d.file.At != "" && d.place == d.file.At && exists(inside) {
		old, err := readMasters(inside, d.log)
		if err == nil && old[d.file.Master] == nil { // else it is a copy that somebody has put there
			err = os.Remove(inside)
		}
		if err != nil {
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

// write makes the keys count: with the records first, where they are kept there.
func (d *DataKeys) write(ctx context.Context) error {
	data, err := json.MarshalIndent(d.file, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if d.records != nil {
		if err := d.records.Save(ctx, data); err != nil {
			return err
		}
		d.written = true
	}
	if err := writeNew(d.dir, DataKeysFile, data); err != nil {
		return err
	}
	d.written = true
	return nil
}

// without makes the keys be without those older than a generation, and tells
// whether there were any.
func (d *DataKeys) without(older uint32) bool {
	keep := slices.DeleteFunc(slices.Clone(d.file.Keys), func(k dataKeyJSON) bool {
		return k.Generation < older && k.Generation != d.file.Current
	})
	had := len(keep) < len(d.file.Keys)
	d.file.Keys = keep
	for generation := range d.keys {
		if generation < older && generation != d.file.Current {
			delete(d.keys, generation)
		}
	}
	return had
}

// current is the key that new things are made with.
func (d *DataKeys) current() []byte { return d.keys[d.file.Current] }

// key makes the Key for one purpose.
func (d *DataKeys) key(purpose string) (*Key, error) {
	k := &Key{purpose: purpose, rand: d.rand}
	return k, k.take(d)
}

// take has the key be of these data keys from now on.
func (k *Key) take(d *DataKeys) error {
	set := &keySet{current: d.file.Current, aeads: map[uint32]cipher.AEAD{}}
	for generation, key := range d.keys {
		aead, err := newAEAD(key, k.purpose)
		if err != nil {
			return err
		}
		set.aeads[generation] = aead
	}
	k.set.Store(set)
	return nil
}

// DataKey tells of a data key what is not secret.
type DataKey struct {
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
	DataKeys []DataKey `json:"dataKeys"`
}

// Info tells of the keys what is not secret.
func (d *DataKeys) Info() MasterInfo {
	i := MasterInfo{ID: d.file.Master, File: d.place, Inside: filepath.Dir(d.place) == filepath.Clean(d.dir)}
	for _, k := range d.file.Keys {
		i.DataKeys = append(i.DataKeys, DataKey{k.Generation, k.Created, k.Generation == d.file.Current})
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
