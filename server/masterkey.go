package server

import (
	"context"
	"path/filepath"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/store"
)

// keyRecords keeps the data keys, which the master key seals, in the database
// where the records are that they seal.
type keyRecords struct{ records store.Store }

const dataKeysKey = "dataKeys"

// Load implements identity.Records.
func (k keyRecords) Load(ctx context.Context) (data []byte, err error) {
	err = k.records.View(ctx, func(r store.Reader) error {
		data, _, err = r.Get(bindingBucket, dataKeysKey)
		return err
	})
	return data, err
}

// Save implements identity.Records.
func (k keyRecords) Save(ctx context.Context, data []byte) error {
	return k.records.Update(ctx, func(tx store.Tx) error { return tx.Put(bindingBucket, dataKeysKey, data) })
}

// joinKeys has the keys be those that the records are sealed by, now that the
// records are this server's.
func (s *Server) joinKeys(ctx context.Context) error {
	if s.cfg.Database == "" {
		return s.authority.Join(ctx, nil)
	}
	return s.authority.Join(ctx, keyRecords{s.records})
}

// publishKeys has a database keep the data keys from the first start on that
// has opened what they sealed.
func (s *Server) publishKeys(ctx context.Context) error {
	if s.cfg.Database == "" {
		return nil
	}
	return s.authority.Publish(ctx, keyRecords{s.records})
}

// sessionGrace is how long temporary credentials of before a rotation hold: what
// is at work when the key is rotated, for 15 minutes at most, ends with them, and
// so do provisioned containers, which are replaced in the meantime.
const sessionGrace = 20 * time.Minute

// sessionLongest is how long credentials in containers last that were not ended
// by a rotation.
const sessionLongest = 12 * time.Hour

// rotatedSince tells whether the key that makes temporary credentials is younger
// than a time.
func (s *Server) rotatedSince(at time.Time) bool {
	for _, k := range s.authority.Master().DataKeys {
		if k.Current {
			return k.Created.After(at)
		}
	}
	return false
}

// masterKey is the master key as the control API shows it.
type masterKey struct{ s *Server }

// Rotate implements control.MasterKey.
func (m masterKey) Rotate(ctx context.Context, to string, endSessions bool) (control.KeyStatus, error) {
	if to != "" && !filepath.IsAbs(to) {
		return control.KeyStatus{}, hearth.Errorf(hearth.InvalidParameter, "to: %q is no absolute path.", to)
	}
	grace := sessionGrace
	if endSessions {
		grace = 0
	}
	was := m.s.authority.Master()
	// Whoever asked and left does not leave a rotation half done.
	now, err := m.s.authority.Rotate(context.WithoutCancel(ctx), to, grace)
	if now.ID != was.ID {
		m.s.log.Info("the master key was rotated", "key", now.ID, "file", now.File, "sessionsEndIn", grace)
		if m.s.manager != nil { // who runs functions has given them credentials
			node := ownNode{m.s.manager, m.s.worker}
			node.Renew()
			m.s.tellNodes(func(n hearth.Node) { n.Renew() })
		}
		m.s.resealing.begin()
	}
	switch {
	case err != nil && now.ID != was.ID:
		return control.KeyStatus{}, hearth.Errorf(hearth.Service, "The key was rotated, but not all is done: %w", err)
	case err != nil:
		return control.KeyStatus{}, hearth.Errorf(hearth.InvalidParameter, "%v.", err)
	}
	return m.Status(ctx)
}

// Status implements control.MasterKey.
func (m masterKey) Status(ctx context.Context) (control.KeyStatus, error) {
	info := m.s.authority.Master()
	status := control.KeyStatus{ID: info.ID, File: info.File, Inside: info.Inside}
	counts, err := m.s.countSealed(ctx)
	if err != nil {
		return status, err
	}
	for _, k := range info.DataKeys {
		status.DataKeys = append(status.DataKeys, control.DataKey{Generation: k.Generation, Created: k.Created, Current: k.Current, Records: counts[k.Generation]})
	}
	status.Resealing, status.Resealed, status.Failing = m.s.resealing.read()
	return status, nil
}
