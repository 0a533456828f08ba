package server

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
)

// unpackProgram lays the embedded sandbox program out in the data folder and
// returns its path. Its name has its checksum, so that two versions do not
// meet; programs of other versions are removed, since nothing runs them once
// this server holds the folder.
func unpackProgram(dataDir string, program []byte) (string, error) {
	dir := filepath.Join(dataDir, "libexec")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	sum := sha256.Sum256(program)
	name := "hearth-sandbox-" + hex.EncodeToString(sum[:8])
	path := filepath.Join(dir, name)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return "", err
		}
	}
	// Written anew at each start: whatever happened to the last one's file,
	// this is the one that belongs to this server.
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return "", err
	}
	if _, err := f.Write(program); err != nil {
		f.Close()
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	return path, os.Rename(path+".new", path)
}
