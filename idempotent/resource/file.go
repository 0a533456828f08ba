package resource

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hearth-faas/hearth/idempotent"
	"github.com/hearth-faas/hearth/s3"
)

type syscallConn = syscall.RawConn

// within tells whether a path is in one of the folders that may be asked about,
// also once its links are followed.
func (s *States) within(path string) error {
	_, err := s.folder(path, func(root *os.Root, rel string) error {
		_, err := root.Stat(rel)
		return err
	})
	return err
}

// folder calls look with the folder that path is in, from which no link leads
// out; found is false if there is no such folder.
func (s *States) folder(path string, look func(root *os.Root, rel string) error) (found bool, err error) {
	for _, dir := range s.cfg.Paths {
		rel, err := filepath.Rel(dir, path)
		if err != nil || !filepath.IsLocal(rel) {
			continue
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			return true, err
		}
		defer root.Close() // only read
		return true, look(root, rel)
	}
	return false, errors.New("it is in none of the folders of dependency-paths")
}

// file is the state of a file, or of what names a folder has in it at its top.
func (s *States) file(path string) (state idempotent.State, err error) {
	_, err = s.folder(path, func(root *os.Root, rel string) error {
		info, err := root.Stat(rel)
		if errors.Is(err, fs.ErrNotExist) {
			state.Value = absent
			return nil
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() && !info.IsDir() {
			return fmt.Errorf("it is neither a file nor a folder")
		}
		tag, changed := s3.FileTag(info)
		state = idempotent.State{Value: tag, Unsettled: s.cfg.Clock.Now().Sub(changed) < settled}
		return nil
	})
	return state, err
}
