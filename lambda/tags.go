package lambda

import (
	"context"
	"maps"
	"strings"

	hearth "github.com/hearth-faas/hearth"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"
)

var tagOperations = operationTable{
	"ListTags":      serve((*Handler).listTags),
	"TagResource":   serve((*Handler).tagResource),
	"UntagResource": serve((*Handler).untagResource),
}

// TagStore keeps the tags of one kind of resource, by what names one in its
// account. Errors of all: ResourceNotFound.
type TagStore interface {
	Tags(ctx context.Context, account hearth.Account, name string) (map[string]string, error)
	Tag(ctx context.Context, account hearth.Account, name string, tags map[string]string) error
	Untag(ctx context.Context, account hearth.Account, name string, keys []string) error
}

// tagged is a resource that can have tags.
type tagged struct {
	store   TagStore
	account hearth.Account
	name    string
}

// tagged finds what an ARN, which has passed its pattern, is the name of:
// arn:aws:lambda:REGION:ACCOUNT:KIND:NAME.
func (h *Handler) tagged(c *call, resource *string, action string) (tagged, error) {
	parts := strings.SplitN(str(resource), ":", 7)
	if len(parts) < 7 {
		return tagged{}, hearth.Errorf(hearth.InvalidParameter, "%s is not the ARN of a resource that can have tags", str(resource))
	}
	if parts[5] == "function" {
		t, err := h.target(c, resource, nil, action)
		if err == nil && t.qualifier != "" {
			err = hearth.Errorf(hearth.InvalidParameter, "Tags on function aliases and versions are not supported. Please specify a function ARN.")
		}
		return tagged{h.Registry, t.account, t.name}, err
	}
	r := tagged{h.tagStore(parts[5]), hearth.Account(parts[4]), parts[6]}
	switch {
	case r.store == nil:
		return r, notBuilt("%s on a resource of the kind %s", action, parts[5])
	case parts[3] != h.region || r.account != c.account():
		return r, hearth.Errorf(hearth.AccessDenied, "User: %s is not authorized to perform: lambda:%s on resource: %s", c.claim.Identity.ARN, action, str(resource))
	}
	return r, nil
}

// tagStore keeps the tags of the resources of a kind; nil if none does.
func (h *Handler) tagStore(kind string) TagStore {
	switch kind {
	case "event-source-mapping":
		return h.Mappings
	case "capacity-provider":
		return h.CapacityProviders
	case "code-signing-config":
		return h.SigningConfigs
	}
	return nil
}

func (h *Handler) listTags(c *call, in *sdk.ListTagsInput) (smithy.Serializable, error) {
	r, err := h.tagged(c, in.Resource, "ListTags")
	if err != nil {
		return nil, err
	}
	tags, err := r.store.Tags(c.ctx, r.account, r.name)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListTagsOutput{Tags: map[string]string{}}
	maps.Copy(out.Tags, tags)
	return out, nil
}

func (h *Handler) tagResource(c *call, in *sdk.TagResourceInput) (smithy.Serializable, error) {
	r, err := h.tagged(c, in.Resource, "TagResource")
	if err != nil {
		return nil, err
	}
	if len(in.Tags) == 0 {
		return nil, hearth.Errorf(hearth.InvalidParameter, "An error occurred and the request cannot be processed.")
	}
	return &sdk.TagResourceOutput{}, r.store.Tag(c.ctx, r.account, r.name, in.Tags)
}

func (h *Handler) untagResource(c *call, in *sdk.UntagResourceInput) (smithy.Serializable, error) {
	r, err := h.tagged(c, in.Resource, "UntagResource")
	if err != nil {
		return nil, err
	}
	if len(in.TagKeys) == 0 { // an empty list does not come over the wire
		return nil, hearth.Errorf(hearth.Validation, "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null")
	}
	return &sdk.UntagResourceOutput{}, r.store.Untag(c.ctx, r.account, r.name, in.TagKeys)
}
