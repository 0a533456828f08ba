package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/store"
)

// RotateKey replaces the master key of a data folder whose records are in a
// database, while no server works on either, and makes a new data key; to is the
// file of the new master key, "" where the old one is. The database is opened as a
// server does it, so that none works on it meanwhile, from whatever machine, and
// one whose place this takes writes nothing from then on. Whenever it is
// interrupted a server can be started, and this be done again. With an error the
// rotation may be done nevertheless, if what is returned says of a key.
//
// Errors, among others: store.InUseError and postgres.InUseError while a server
// works on the folder or the database.
func RotateKey(ctx context.Context, cfg Config, to string) (now identity.MasterInfo, err error) {
	if err := cfg.checkDatabase(); err != nil {
		return now, err
	}
	s := &Server{cfg: cfg, log: cfg.Logger(), clock: clock.System(), taken: make(chan error, 1)}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.openFolder(ctx); err != nil {
		return now, err
	}
	bound, err := s.bound()
	if err != nil {
		return now, store.Explain(s.cfg.DataDir, err)
	}
	if bound.ID == "" || cfg.Database == "" { // it would be taken for its own now, or not be opened
		return now, fmt.Errorf("the data folder %s has no records in a database, or that is not named", s.cfg.DataDir)
	}
	if err := s.openStore(ctx); err != nil {
		return now, err
	}
	if err := s.joinKeys(ctx); err != nil {
		return now, err
	}
	was := s.authority.Master()
	now, err = s.authority.Rotate(ctx, to, 0)
	if now.ID == was.ID {
		return identity.MasterInfo{}, err
	}
	return now, err
}

// DatabaseOf is the name of the database that has a data folder's records; "" is
// that the folder has them.
func DatabaseOf(dir string) (string, error) {
	b, err := (&Server{cfg: Config{DataDir: dir}}).bound()
	return b.Name, err
}
