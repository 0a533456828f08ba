package wire

import (
	"context"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/account"
	"github.com/hearth-faas/hearth/iam"
	"github.com/hearth-faas/hearth/query"
)

// accessKey is a key in an output: with its secret only where it is made.
type accessKey struct {
	UserName        string `xml:",omitempty"`
	AccessKeyId     string
	Status          string
	SecretAccessKey string `xml:",omitempty"`
	CreateDate      query.Time
}

func keyOf(k *account.Key, name string) accessKey {
	status := "Active"
	if !k.Active {
		status = "Inactive"
	}
	return accessKey{UserName: name, AccessKeyId: k.ID, Status: status, CreateDate: query.Time(k.Created)}
}

// owner is whose keys a request is about: a user's, by the name, or those of
// who asks, who may be root.
func (s *service) owner(c *query.Call, name string) (id, called string, err error) {
	if name == "" && strings.HasSuffix(c.Caller.ARN, ":root") {
		return "", "", nil
	}
	u, err := s.userOrSelf(c, name)
	if err != nil {
		return "", "", err
	}
	return u.ID, u.Name, nil
}

type createAccessKeyOutput struct{ AccessKey accessKey }

func (s *service) createAccessKey(ctx context.Context, c *query.Call, in *maybeUserInput) (*createAccessKeyOutput, error) {
	s.keysChanging.Lock()
	defer s.keysChanging.Unlock()
	id, name, err := s.owner(c, in.UserName)
	if err != nil {
		return nil, err
	}
	made, err := s.keys.Create(ctx, c.Caller.Account, id)
	if err != nil {
		return nil, err
	}
	k := keyOf(made.Key, name)
	k.SecretAccessKey = made.Secret.Reveal()
	return &createAccessKeyOutput{k}, nil
}

type listAccessKeysInput struct {
	UserName string
	paging
}

type listAccessKeysOutput struct {
	UserName          string `xml:",omitempty"`
	AccessKeyMetadata query.List[accessKey]
	paged
}

func (s *service) listAccessKeys(_ context.Context, c *query.Call, in *listAccessKeysInput) (*listAccessKeysOutput, error) {
	id, name, err := s.owner(c, in.UserName)
	if err != nil {
		return nil, err
	}
	some, marker, err := iam.Slice(s.keys.List(c.Caller.Account, id), in.page(""), func(k *account.Key) string { return k.ID })
	if err != nil {
		return nil, err
	}
	out := &listAccessKeysOutput{UserName: name, paged: next(marker)}
	for _, k := range some {
		out.AccessKeyMetadata = append(out.AccessKeyMetadata, keyOf(k, name))
	}
	return out, nil
}

type updateAccessKeyInput struct {
	UserName    string
	AccessKeyId string `query:"required"`
	Status      string `query:"required"`
}

func (s *service) updateAccessKey(ctx context.Context, c *query.Call, in *updateAccessKeyInput) (*query.Nothing, error) {
	id, _, err := s.owner(c, in.UserName)
	if err != nil {
		return nil, err
	}
	return nil, s.keys.Update(ctx, c.Caller.Account, id, in.AccessKeyId, in.Status == "Active")
}

type deleteAccessKeyInput struct {
	UserName    string
	AccessKeyId string `query:"required"`
}

func (s *service) deleteAccessKey(ctx context.Context, c *query.Call, in *deleteAccessKeyInput) (*query.Nothing, error) {
	id, _, err := s.owner(c, in.UserName)
	if err != nil {
		return nil, err
	}
	return nil, s.keys.Delete(ctx, c.Caller.Account, id, in.AccessKeyId)
}

type accessKeyInput struct {
	AccessKeyId string `query:"required"`
}

type keyLastUsed struct {
	LastUsedDate *query.Time `xml:",omitempty"`
	ServiceName  string
	Region       string
}

type keyLastUsedOutput struct {
	UserName          string `xml:",omitempty"`
	AccessKeyLastUsed keyLastUsed
}

// getAccessKeyLastUsed tells when a key was used, to a quarter of an hour; for
// what is not kept.
func (s *service) getAccessKeyLastUsed(_ context.Context, c *query.Call, in *accessKeyInput) (*keyLastUsedOutput, error) {
	k := s.keys.Get(in.AccessKeyId)
	if k == nil || k.Account != c.Caller.Account {
		return nil, hearth.Errorf(hearth.NoSuchEntity, "The Access Key with id %s cannot be found.", in.AccessKeyId)
	}
	out := &keyLastUsedOutput{AccessKeyLastUsed: keyLastUsed{ServiceName: "N/A", Region: "N/A"}}
	if u := s.dir.UserByID(k.Account, k.User); u != nil {
		out.UserName = u.Name
	}
	if !k.Used.IsZero() {
		used := query.Time(k.Used)
		out.AccessKeyLastUsed.LastUsedDate, out.AccessKeyLastUsed.Region = &used, s.region
	}
	return out, nil
}
