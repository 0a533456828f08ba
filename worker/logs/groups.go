package logs

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/hearth-faas/hearth"
)

// maxTags bounds the tags of a group.
const maxTags = 50

// deletedPrefix begins the names of directories whose groups were deleted: no
// group's directory does.
const deletedPrefix = "#deleted-"

// NewGroup is a group that is made before anything is written to it.
type NewGroup struct {
	Class     string // such as STANDARD
	Protected bool   // against deletion
	Tags      map[string]string
}

// CreateGroup makes an empty group, which stays until it is deleted. Errors:
// AlreadyExists, also for a group that a function made by writing to it.
func (s *Store) CreateGroup(_ context.Context, account hearth.Account, name string, n NewGroup) error {
	s.Flush()
	s.disk.Lock()
	defer s.disk.Unlock()
	key := groupKey{account, name}
	if s.groups[key] != nil {
		return hearth.Errorf(hearth.AlreadyExists, "The specified log group already exists")
	}
	if err := checkTags(n.Tags); err != nil {
		return err
	}
	_, err := s.makeGroup(key, groupMeta{Class: n.Class, Protected: n.Protected, Tags: n.Tags})
	return service("logs.CreateGroup", name, err)
}

// DeleteGroup deletes a group with all its events. A function that writes
// later makes a new one. Errors: NotFound, and Validation for a group that
// is protected.
func (s *Store) DeleteGroup(_ context.Context, account hearth.Account, name string) error {
	s.Flush()
	s.disk.Lock()
	defer s.disk.Unlock()
	g := s.groups[groupKey{account, name}]
	switch {
	case g == nil:
		return noGroup()
	case g.meta.Protected:
		return hearth.Errorf(hearth.Validation, "The log group %s has deletion protection enabled and cannot be deleted.", name)
	}
	// By another name first: what a crash leaves is not a group without its
	// first half.
	for n := 0; ; n++ {
		doomed := filepath.Join(filepath.Dir(g.dir), fmt.Sprintf("%s%d", deletedPrefix, n))
		if _, err := os.Lstat(doomed); err == nil {
			continue
		}
		if err := os.Rename(g.dir, doomed); err != nil {
			return service("logs.DeleteGroup", name, err)
		}
		delete(s.groups, groupKey{account, name})
		for _, seg := range g.segments {
			s.bytes -= seg.Size
		}
		return service("logs.DeleteGroup", name, os.RemoveAll(doomed))
	}
}

// SetRetention sets how long a group's events are kept, in whole days; 0 is
// the store's default. Errors: NotFound.
func (s *Store) SetRetention(_ context.Context, account hearth.Account, name string, days int) error {
	err := s.changeGroup("logs.SetRetention", account, name, func(m *groupMeta) error {
		m.Retention = days
		return nil
	})
	if err == nil {
		s.tidy()
	}
	return err
}

// Protect sets whether a group is protected against deletion. Errors: NotFound.
func (s *Store) Protect(_ context.Context, account hearth.Account, name string, protected bool) error {
	return s.changeGroup("logs.Protect", account, name, func(m *groupMeta) error {
		m.Protected = protected
		return nil
	})
}

// GroupTags are a group's tags. Errors: NotFound.
func (s *Store) GroupTags(_ context.Context, account hearth.Account, name string) (map[string]string, error) {
	s.Flush()
	s.disk.RLock()
	defer s.disk.RUnlock()
	g := s.groups[groupKey{account, name}]
	if g == nil {
		return nil, noGroup()
	}
	return maps.Clone(g.meta.Tags), nil
}

// TagGroup adds tags to a group, in place of those with the same keys. Errors:
// NotFound, TooManyTags.
func (s *Store) TagGroup(_ context.Context, account hearth.Account, name string, tags map[string]string) error {
	return s.changeGroup("logs.TagGroup", account, name, func(m *groupMeta) error {
		all := maps.Clone(m.Tags)
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, tags)
		m.Tags = all
		return checkTags(all)
	})
}

// UntagGroup removes tags from a group. Errors: NotFound.
func (s *Store) UntagGroup(_ context.Context, account hearth.Account, name string, keys []string) error {
	return s.changeGroup("logs.UntagGroup", account, name, func(m *groupMeta) error {
		m.Tags = maps.Clone(m.Tags)
		for _, k := range keys {
			delete(m.Tags, k)
		}
		return nil
	})
}

// changeGroup changes what is known of a group, on disk before in memory. An
// error of change is returned as it is.
func (s *Store) changeGroup(op string, account hearth.Account, name string, change func(*groupMeta) error) error {
	s.Flush()
	s.disk.Lock()
	defer s.disk.Unlock()
	g := s.groups[groupKey{account, name}]
	if g == nil {
		return noGroup()
	}
	old := g.meta
	if err := change(&g.meta); err != nil {
		g.meta = old
		return err
	}
	err := g.writeMeta()
	if err != nil {
		g.meta = old
	}
	return service(op, name, err)
}

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return hearth.Errorf(hearth.TooManyTags, "A resource can have no more than %d tags", maxTags)
	}
	return nil
}

// service is an error that is the disk's.
func service(op, subject string, err error) error {
	if err == nil {
		return nil
	}
	return &hearth.Error{Op: op, Subject: subject, Kind: hearth.Service, Message: "An internal error occurred.", Err: err}
}
