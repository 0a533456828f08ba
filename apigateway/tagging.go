package apigateway

import (
	"context"
	"maps"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/tags"
)

// ARN is how policies and tags name a resource, such as /apis/ID.
func (s *Service) ARN(path string) string { return "arn:aws:apigateway:" + s.Region + "::" + path }

// tagged is what an ARN names: an API, a stage of one, or a host name.
func (s *Service) tagged(arn string) (api, stage, domain string, err error) {
	path, ok := strings.CutPrefix(arn, s.ARN("/"))
	parts := strings.Split(path, "/")
	switch {
	case ok && len(parts) == 2 && parts[0] == "apis":
		return parts[1], "", "", nil
	case ok && len(parts) == 4 && parts[0] == "apis" && parts[2] == "stages":
		return parts[1], parts[3], "", nil
	case ok && len(parts) == 2 && parts[0] == "domainnames":
		return "", "", parts[1], nil
	}
	return "", "", "", invalid("Invalid resource ARN %.300q: only APIs, stages and domain names have tags, such as %s.", arn, s.ARN("/apis/ID"))
}

// Tags are those of what the ARN names.
func (s *Service) Tags(account hearth.Account, arn string) (map[string]string, error) {
	api, stage, name, err := s.tagged(arn)
	switch {
	case err != nil:
		return nil, err
	case name != "":
		d, err := s.Domain(account, name)
		if err != nil {
			return nil, err
		}
		return d.Tags, nil
	case stage != "":
		n, err := s.Stage(account, api, stage)
		if err != nil {
			return nil, err
		}
		return n.Tags, nil
	}
	a, err := s.API(account, api)
	if err != nil {
		return nil, err
	}
	return a.Tags, nil
}

// Tag sets tags of what the ARN names, and removes those of the keys.
func (s *Service) Tag(ctx context.Context, account hearth.Account, arn string, set map[string]string, remove []string) error {
	api, stage, name, err := s.tagged(arn)
	if err != nil {
		return err
	}
	change := func(have map[string]string) map[string]string {
		m := tags.Without(have, remove)
		maps.Copy(m, set)
		return m
	}
	switch {
	case name != "":
		_, err = s.UpdateDomain(ctx, account, name, func(d *Domain) error {
			d.Tags = change(d.Tags)
			return nil
		})
	case stage != "":
		_, err = s.UpdateStage(ctx, account, api, stage, func(n *Stage) error {
			n.Tags = change(n.Tags)
			return nil
		})
	default:
		_, err = s.UpdateAPI(ctx, account, api, Quick{}, func(a *API) error {
			a.Tags = change(a.Tags)
			return nil
		})
	}
	return err
}
