package proxy

import (
	"context"

	"github.com/hearth-faas/hearth"
)

// Document is an account's resources and APIs in one file.
type Document struct {
	// Version is the document's format: 1.
	Version   int        `json:"hearthProxy"`
	Resources []Resource `json:"resources"`
	APIs      []API      `json:"apis"`
}

const documentVersion = 1

// Export gives all of the account but its keys.
func (s *Service) Export(account hearth.Account) Document {
	d := Document{Version: documentVersion, Resources: s.Resources(account, ""), APIs: s.APIs(account)}
	if d.Resources == nil {
		d.Resources = []Resource{}
	}
	if d.APIs == nil {
		d.APIs = []API{}
	}
	return d
}

// Imported is how much an import made or changed.
type Imported struct {
	Resources int `json:"resources"`
	APIs      int `json:"apis"`
	Kept      int `json:"kept"` // resources that were there, and stayed as they are
}

// Import takes in what Export gave. Revisions and times of the document are left
// out. With keep, resources that there are already stay as they are. All is
// checked before anything is changed; an error after that says what could not be
// taken in, and Imported what was. Errors: as PutResource and PutAPI.
func (s *Service) Import(ctx context.Context, account hearth.Account, data []byte, keep bool) (n Imported, _ error) {
	var d Document
	if err := decodeStrict(data, &d); err != nil {
		return n, hearth.Errorf(hearth.InvalidParameter, "This is no document of proxy APIs: %v.", err)
	}
	if d.Version != documentVersion {
		return n, hearth.Errorf(hearth.InvalidParameter, "hearthProxy: the document's format is %d, and this program knows %d.", d.Version, documentVersion)
	}
	seen := map[string]bool{}
	for i := range d.Resources {
		r := &d.Resources[i]
		if _, err := r.check(); err != nil {
			return n, hearth.Errorf(hearth.InvalidParameter, "resources[%d]: %s", i, message(err))
		}
		if seen["r/"+r.ID] {
			return n, hearth.Errorf(hearth.InvalidParameter, "resources[%d]: %s comes twice.", i, r.ID)
		}
		seen["r/"+r.ID], r.Revision = true, 0
	}
	for i := range d.APIs {
		a := &d.APIs[i]
		if _, err := compile(account, a); err != nil {
			return n, hearth.Errorf(hearth.InvalidParameter, "apis[%d]: %s", i, message(err))
		}
		if seen["a/"+a.ID] {
			return n, hearth.Errorf(hearth.InvalidParameter, "apis[%d]: %s comes twice.", i, a.ID)
		}
		seen["a/"+a.ID], a.Revision = true, 0
	}
	for _, r := range d.Resources {
		if _, v := s.resources.find(account, r.ID); v != nil && keep {
			n.Kept++
			continue
		}
		if _, err := s.PutResource(ctx, account, r); err != nil {
			return n, err
		}
		n.Resources++
	}
	for i := range d.APIs {
		if _, err := s.PutAPI(ctx, account, &d.APIs[i]); err != nil {
			return n, err
		}
		n.APIs++
	}
	return n, nil
}
