package namespace

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Unpack lays out the sandbox program in the data folder, for Config.Program,
// and returns its path. The name tells the content, so that a newer program
// never meets an older one's containers, and every start but the first finds
// it there. Older ones are removed.
func Unpack(dataDir string, program []byte) (string, error) {
	dir := filepath.Join(sandboxDir(dataDir), "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("namespace: unpacking the sandbox program: %w", err)
	}
	sum := sha256.Sum256(program)
	path := filepath.Join(dir, "hearth-sandbox-"+hex.EncodeToString(sum[:8]))
	if err := place(path, program, sum); err != nil {
		return "", fmt.Errorf("namespace: unpacking the sandbox program: %w", err)
	}
	older, err := filepath.Glob(filepath.Join(dir, "hearth-sandbox-*"))
	if err != nil {
		return "", err
	}
	for _, old := range older {
		if old == path {
			continue
		}
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("namespace: removing an older sandbox program: %w", err)
		}
	}
	return path, nil
}

func place(path string, program []byte, sum [32]byte) error {
	if there, err := os.ReadFile(path); err == nil && sha256.Sum256(there) == sum {
		return os.Chmod(path, 0o755)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is none
	_, err = f.Write(program)
	if err == nil {
		err = f.Chmod(0o755)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
