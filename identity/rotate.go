package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Rotate replaces the master key of the data folder dir, whose lock the caller
// holds, and makes a new data key. The old master key is in the file from; the
// new one is made in the file to, which may be the same, or is found there if
// it was put there before. At no moment is there a state in which a start would
// not find its way, whenever the process ends:
//
//  1. The new master key is on disk: in a file of its own, or in one with the
//     old one beside it.
//  2. The data keys are replaced by the same, sealed by the new master key, and
//     a new one. From here on it is done, and the old master key opens nothing
//     that is left.
//  3. The old master key is removed: from the file that has both, or with the
//     file, if it was in the data folder. One elsewhere is its owner's.
//
// Temporary credentials end with it: the key that they are made with is another
// one, so that who had the old one makes none.
func Rotate(dir, from, to string, now time.Time, log *slog.Logger) (MasterInfo, error) {
	random := defaultRand
	for _, place := range []string{from, to} {
		if err := sweepBeside(place); err != nil {
			return MasterInfo{}, err
		}
	}
	d, err := openDataKeys(dir, from, random, log)
	if err != nil {
		return MasterInfo{}, err
	}
	err = d.rotate(context.Background(), to, now)
	if !d.written {
		return MasterInfo{}, err
	}
	return d.Info(), err
}

// rotate does the steps of a rotation. An error may be of the last step: then d
// is written, and counts.
func (d *DataKeys) rotate(ctx context.Context, to string, now time.Time) error {
	from := d.place
	next, err := d.nextMaster(to)
	if err != nil {
		return err
	}
	if err := d.replace(ctx, next, to, now); err != nil {
		return err
	}
	d.place = to
	switch {
	case from == to:
		err = writeMasters(to, masters{masterID(next): next})
	case filepath.Dir(from) == filepath.Clean(d.dir):
		err = os.Remove(from)
	}
	if err != nil {
		return fmt.Errorf("the master key was replaced, and the old one is still in %s: remove it: %w", from, err)
	}
	return nil
}

// nextMaster puts the next master key into its file.
func (d *DataKeys) nextMaster(to string) ([]byte, error) {
	if !filepath.IsAbs(to) {
		return nil, fmt.Errorf("%q is no absolute path", to)
	}
	if to != d.place && exists(to) {
		all, err := readMasters(to, d.log)
		if err != nil {
			return nil, fmt.Errorf("what is in %s is not written over, and is no master key: name a file that is not there, or has the next key (%w)", to, err)
		}
		delete(all, d.file.Master)
		id, ok := all.one()
		if !ok {
			return nil, fmt.Errorf("%s has not one other key than the master key that is in use", to)
		}
		return all[id], nil
	}
	next, err := newMaster(d.rand)
	if err != nil {
		return nil, err
	}
	file := masters{masterID(next): next}
	if to == d.place {
		file[d.file.Master] = d.master
	}
	if err := writeMasters(to, file); err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the new master key can't be written: %w; name another file with --to", err)
		}
		return nil, err
	}
	return next, nil
}

// replace seals the data keys, and a new one, by another master key, which is
// in the file place.
func (d *DataKeys) replace(ctx context.Context, master []byte, place string, now time.Time) error {
	aead, err := newAEAD(master, "data keys")
	if err != nil {
		return err
	}
	fresh, err := newMaster(d.rand)
	if err != nil {
		return err
	}
	file := dataKeysJSON{Version: fileVersion, Master: masterID(master), Current: 1}
	if place != filepath.Join(d.dir, MasterKeyFile) {
		file.At = place
	}
	keys := append([]dataKeyJSON{}, d.file.Keys...)
	for _, k := range keys {
		file.Current = max(file.Current, k.Generation+1)
	}
	d.keys[file.Current] = fresh
	keys = append(keys, dataKeyJSON{Generation: file.Current, Created: now.UTC().Truncate(time.Second)})
	for _, k := range keys {
		if k.Sealed, err = seal(aead, d.rand, sealVersion, d.keys[k.Generation], dataKeyName(k.Generation)); err != nil {
			return err
		}
		file.Keys = append(file.Keys, k)
	}
	d.file, d.master = file, master
	return d.write(ctx)
}

// OpenDataKeys reads the data keys of a data folder that a server has started
// in; masterKey is the file of the master key. It changes nothing.
func OpenDataKeys(dir, masterKey string) (*DataKeys, error) {
	d, err := openDataKeys(dir, masterKey, defaultRand, slog.New(slog.DiscardHandler))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no master key %s: name its file with --master-key-file: %w", masterKey, err)
	}
	return d, err
}

// Sealing is the key that seals secrets at rest.
func (d *DataKeys) Sealing() (*Key, error) { return d.key(secretsPurpose) }
