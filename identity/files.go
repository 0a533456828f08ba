package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/hearth-faas/hearth"
)

// The files in the data folder. Both are for the server's user alone.
const (
	CredentialsFile = "credentials.json"
	MasterKeyFile   = "master.key"
)

// fileVersion is the version of both files' format.
const fileVersion = 1

// Root is the account and its root credentials.
type Root struct {
	Account         hearth.Account
	Region          string
	AccessKeyID     string
	SecretAccessKey Secret
}

// credentialsJSON is the content of CredentialsFile.
type credentialsJSON struct {
	Version         int    `json:"version"`
	Account         string `json:"account"`
	Region          string `json:"region"`
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
}

var (
	accountShape = regexp.MustCompile(`^[0-9]{12}$`)
	regionShape  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
	keyIDShape   = regexp.MustCompile(`^AKIA[A-Z2-7]{16}$`)
	secretShape  = regexp.MustCompile(`^[A-Za-z0-9+/]{40}$`)
)

// ReadRoot reads the root credentials that a server made in the data folder
// dir. It changes nothing; an error that is fs.ErrNotExist says that no
// server has started there yet.
func ReadRoot(dir string) (Root, error) {
	path := filepath.Join(dir, CredentialsFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return Root{}, err
	}
	root, err := decodeRoot(data)
	if err != nil {
		return Root{}, fmt.Errorf("%s: %w", path, err)
	}
	return root, nil
}

// decode reads the one JSON value in data. Errors never quote it, since it is
// secret.
func decode(data []byte, into any, version *int) error {
	return decodeUpTo(fileVersion, data, into, version)
}

// decodeUpTo is decode of a file that has had more versions.
func decodeUpTo(newest int, data []byte, into any, version *int) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(into); err != nil {
		return errors.New("the file is damaged: it is not the JSON that Hearth wrote")
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("the file is damaged: something follows its content")
	}
	switch {
	case *version > newest:
		return fmt.Errorf("the file was written by a newer version of Hearth (format %d, this program knows %d)", *version, newest)
	case *version < 1:
		return errors.New("the file is damaged: it has no version")
	}
	return nil
}

func decodeRoot(data []byte) (Root, error) {
	var c credentialsJSON
	if err := decode(data, &c, &c.Version); err != nil {
		return Root{}, err
	}
	for _, field := range []struct {
		name, value string
		shape       *regexp.Regexp
	}{{"account", c.Account, accountShape}, {"region", c.Region, regionShape}, {"accessKeyId", c.AccessKeyID, keyIDShape}, {"secretAccessKey", c.SecretAccessKey, secretShape}} {
		if !field.shape.MatchString(field.value) {
			return Root{}, fmt.Errorf("the file is damaged: its %s is not one", field.name)
		}
	}
	return Root{
		Account: hearth.Account(c.Account), Region: c.Region,
		AccessKeyID: c.AccessKeyID, SecretAccessKey: NewSecret(c.SecretAccessKey),
	}, nil
}

// loadOrCreate reads the file name in dir, or makes it with what create
// gives. A file that others may read is repaired, which log is told.
func loadOrCreate(dir, name string, log *slog.Logger, create func() (any, error)) ([]byte, error) {
	data, err := readPrivate(filepath.Join(dir, name), log)
	if errors.Is(err, fs.ErrNotExist) {
		content, err := create()
		if err != nil {
			return nil, err
		}
		data, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			return nil, err
		}
		data = append(data, '\n')
		return data, writeNew(dir, name, data)
	}
	return data, err
}

// readPrivate reads a file with secrets. One that others may read is repaired,
// which log is told.
func readPrivate(path string, log *slog.Logger) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s must be a regular file, and is %v", path, info.Mode().Type())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, fmt.Errorf("%s holds secrets and others may read it (mode %#o): make it readable by its owner only: %w", path, mode, err)
		}
		log.Warn("a file with secrets was readable by others; its mode is 0600 now: consider its content known", "file", path, "mode", fmt.Sprintf("%#o", mode))
	}
	return os.ReadFile(path)
}

// writeNew makes the file, whole or not at all, and durable: what it holds
// may seal what is written next.
func writeNew(dir, name string, data []byte) error {
	f, err := os.CreateTemp(dir, "."+name+"-") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sweep removes what a crash left of writeNew of files of the names.
func sweep(dir string, names ...string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		for _, name := range names {
			if strings.HasPrefix(e.Name(), "."+name+"-") {
				if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
