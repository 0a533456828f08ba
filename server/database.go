package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/postgres"
	"github.com/hearth-faas/hearth/store/sqlite"
)

// checkDatabase tells what is wrong with the database's settings, without the
// URL, which may have a password in it.
func (c Config) checkDatabase() error {
	switch {
	case c.Database == "" && c.DatabasePassword == "":
		return nil
	case c.Database == "":
		return errors.New("a file with a password is given, and no database")
	case c.DatabasePassword != "" && !filepath.IsAbs(c.DatabasePassword):
		return fmt.Errorf("the file of its password, %q, is no absolute path", c.DatabasePassword)
	case c.DatabasePassword != "" && postgres.HasPassword(c.Database):
		return errors.New("the URL has a password, and a file with one is given: say it once")
	}
	return postgres.CheckURL(c.Database)
}

// DatabaseFile is the file in the data folder that says in which database a data folder has its
// records. The folder has what belongs to them: the key that seals the secrets
// among them, and the functions' code.
const DatabaseFile = "database.json"

type binding struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Where a database says that it is some folder's.
const (
	bindingBucket = "server"
	bindingKey    = "folder"
)

// openStore opens what keeps the records: a database of its own in the data
// folder, or the one that it was told.
func (s *Server) openStore(ctx context.Context) error {
	bound, err := s.bound()
	if err != nil {
		return store.Explain(s.cfg.DataDir, err)
	}
	if s.cfg.Database == "" {
		if bound.ID != "" {
			return fmt.Errorf("the data folder %s has its records in the database %s: name it with --database, or give this server another folder", s.cfg.DataDir, bound.Name)
		}
		if s.records, err = sqlite.Open(ctx, s.cfg.DataDir); err != nil {
			return store.Explain(s.cfg.DataDir, err)
		}
		s.opened("records", s.records.Close)
		return nil
	}
	if _, err := os.Stat(s.dir(sqlite.Name)); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return store.Explain(s.cfg.DataDir, err)
		}
		return fmt.Errorf("the data folder %s has records of its own, in %s, which would not be seen: start without --database, move them with hearth move-records, or give this server another folder", s.cfg.DataDir, sqlite.Name)
	}
	if s.cfg.Standby {
		defer answerStandingBy(s.listener)()
	}
	var records *postgres.Store
	err = s.standBy(ctx, func() (err error) {
		records, err = s.openPostgres(ctx, func(err error) { s.taken <- err })
		return err
	})
	if err != nil {
		return err
	}
	s.records = records
	s.opened("records", records.Close)
	return s.bind(ctx, records, bound)
}

// openPostgres opens the database of the configuration, and tells lost when
// another server has taken it over.
func (s *Server) openPostgres(ctx context.Context, lost func(error)) (*postgres.Store, error) {
	cfg := postgres.Config{URL: s.cfg.Database, Log: s.log, Lost: lost}
	if file := s.cfg.DatabasePassword; file != "" {
		password, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("the database's password can't be read: %w", err)
		}
		cfg.Password, _, _ = strings.Cut(string(bytes.TrimRight(password, "\r\n")), "\n")
	}
	return postgres.Open(ctx, cfg)
}

// bound reads the folder's binding, the zero one if there is none.
func (s *Server) bound() (b binding, err error) {
	data, err := os.ReadFile(s.dir(DatabaseFile))
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(data, &b); err != nil || b.ID == "" {
		return b, fmt.Errorf("%s is damaged (%v): restore it from a backup", DatabaseFile, err)
	}
	return b, nil
}

// bind makes sure that the folder and the database belong together, or makes
// them so if neither belongs to another.
func (s *Server) bind(ctx context.Context, records *postgres.Store, bound binding) error {
	id, name := records.ID(), records.Name()
	if bound.ID != "" && bound.ID != id {
		return fmt.Errorf("the data folder %s belongs to another database than %s: it was started with %s", s.cfg.DataDir, name, bound.Name)
	}
	claimed, moving := false, false
	var mover []byte
	err := records.View(ctx, func(r store.Reader) (err error) {
		if _, claimed, err = r.Get(bindingBucket, bindingKey); err != nil {
			return err
		}
		mover, moving, err = r.Get(bindingBucket, movingKey)
		return err
	})
	if err != nil {
		return err
	}
	if moving {
		return fmt.Errorf("the records of the data folder %s are only in part in the database %s: end that with hearth move-records --data %s", mover, name, mover)
	}
	if claimed && bound.ID == "" {
		return fmt.Errorf("the database %s belongs to another data folder than %s, which has its master key and its functions' code: start with that folder or a copy of it, or with another database", name, s.cfg.DataDir)
	}
	if bound.ID == "" {
		data, err := json.Marshal(binding{id, name})
		if err != nil {
			return err
		}
		if err := writeSynced(s.dir(DatabaseFile), data); err != nil {
			return store.Explain(s.cfg.DataDir, err)
		}
	}
	if claimed {
		return nil
	}
	return records.Update(ctx, func(tx store.Tx) error { return tx.Put(bindingBucket, bindingKey, []byte(s.cfg.DataDir)) })
}

// writeSynced writes a file so that after a crash it is there whole or not at
// all.
func writeSynced(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
