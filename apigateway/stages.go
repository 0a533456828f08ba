package apigateway

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/coder/websocket"

	hearth "github.com/hearth-faas/hearth"
)

func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

// Stages lists the stages of an API.
func (s *Service) Stages(account hearth.Account, api string, p Page) ([]*Stage, string, error) {
	r, err := s.api(account, api)
	if err != nil {
		return nil, "", err
	}
	list, next := page(r.Stages, p, nil)
	return list, next, nil
}

// Stage finds a stage.
func (s *Service) Stage(account hearth.Account, api, name string) (*Stage, error) {
	r, err := s.api(account, api)
	if err != nil {
		return nil, err
	}
	if stage := r.Stages[name]; stage != nil {
		return stage, nil
	}
	return nil, notFound("Stage", name)
}

// CreateStage makes a stage.
func (s *Service) CreateStage(ctx context.Context, account hearth.Account, api string, fill func(*Stage) error) (*Stage, error) {
	n := &Stage{Created: s.now()}
	err := s.change(ctx, account, api, func(r *record) error {
		if err := fill(n); err != nil {
			return err
		}
		n.Managed, n.LastDeployment = false, ""
		if r.Stages[n.Name] != nil {
			return conflict("Stage already exists")
		}
		if err := limit("stages", len(r.Stages), maxStages); err != nil {
			return err
		}
		return s.putStage(r, n)
	})
	if err != nil {
		return nil, err
	}
	return s.Stage(account, api, n.Name) // with the deployment that it got
}

// UpdateStage changes a stage.
func (s *Service) UpdateStage(ctx context.Context, account hearth.Account, api, name string, change func(*Stage) error) (*Stage, error) {
	err := s.change(ctx, account, api, func(r *record) error {
		old := r.Stages[name]
		if old == nil {
			return notFound("Stage", name)
		}
		n, err := copyOf(old)
		if err != nil {
			return err
		}
		if err := change(n); err != nil {
			return err
		}
		n.Name, n.Managed, n.Created, n.LastDeployment = old.Name, old.Managed, old.Created, old.LastDeployment
		if n.AutoDeploy && old.AutoDeploy && n.DeploymentID != old.DeploymentID {
			return invalid("deploymentId can't be changed while the stage has autoDeploy.")
		}
		return s.putStage(r, n)
	})
	if err != nil {
		return nil, err
	}
	return s.Stage(account, api, name)
}

var (
	stageName    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	variableName = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)
	// variableValue is what the service lets stage variables be: they become
	// parts of URLs and ARNs.
	variableValue = regexp.MustCompile(`^[A-Za-z0-9._~:/?#&=,@!$%*+-]{0,512}$`)
)

// putStage checks a stage and puts it into r.
func (s *Service) putStage(r *record, n *Stage) error {
	n.Updated = s.now()
	if n.Default == nil {
		n.Default = &RouteSettings{}
	}
	if n.RouteSettings == nil {
		n.RouteSettings = map[string]RouteSettings{}
	}
	if n.Variables == nil {
		n.Variables = map[string]string{}
	}
	if n.Tags == nil {
		n.Tags = map[string]string{}
	}
	if r.websocket() && n.Name == defaultStage {
		return invalid("A stage of a WebSocket API has a name: its path is the stage's.")
	}
	if n.Name != defaultStage && !stageName.MatchString(n.Name) {
		return invalid("stageName is $default, or between 1 and 128 letters, digits, hyphens and underscores: %.140q", n.Name)
	}
	if len(n.Description) > 1024 {
		return invalid("description must have at most 1024 characters.")
	}
	if d := n.DeploymentID; d != "" && r.deployments[d] == nil {
		return notFound("Deployment", d)
	}
	for k, v := range n.Variables {
		if !variableName.MatchString(k) || !variableValue.MatchString(v) {
			return invalid("Stage variable names consist of letters, digits and underscores, their values of what can stand in a URL: %.80q", k)
		}
	}
	if err := checkSettings(*n.Default); err != nil {
		return err
	}
	for key, settings := range n.RouteSettings {
		if _, err := r.routeKey(key); err != nil {
			return err
		}
		if err := checkSettings(settings); err != nil {
			return err
		}
	}
	if err := s.checkAccessLog(r, n); err != nil {
		return err
	}
	if err := checkTags(n.Tags); err != nil {
		return err
	}
	r.Stages[n.Name] = n
	return nil
}

func checkSettings(t RouteSettings) error {
	if t.Burst != nil && *t.Burst < 0 || t.Rate != nil && *t.Rate < 0 {
		return invalid("throttlingBurstLimit and throttlingRateLimit can't be negative.")
	}
	if t.DataTrace || t.LoggingLevel != "" && t.LoggingLevel != "OFF" {
		return invalid("Execution logs (loggingLevel, dataTraceEnabled) are not supported by Hearth: use accessLogSettings.")
	}
	return nil
}

// checkAccessLog refuses a log that could not be written.
func (s *Service) checkAccessLog(r *record, n *Stage) error {
	l := n.AccessLog
	if l == nil {
		return nil
	}
	if l.Destination == "" && l.Format == "" {
		n.AccessLog = nil
		return nil
	}
	if _, ok := logGroup(l.Destination, s.Region, r.Account); !ok {
		return invalid("The destinationArn of the accessLogSettings must be that of a log group of the account, such as arn:aws:logs:%s:%s:log-group:NAME: %.200q", s.Region, r.Account, l.Destination)
	}
	if l.Format == "" || len(l.Format) > 3072 || strings.ContainsAny(l.Format, "\r\n") {
		return invalid("The format of the accessLogSettings is one line of at most 3072 characters.")
	}
	if !strings.Contains(l.Format, "$context.requestId") && !strings.Contains(l.Format, "$context.extendedRequestId") {
		return invalid("The format of the accessLogSettings must have $context.requestId.")
	}
	return nil
}

// logGroup is the name of the group that an ARN names.
func logGroup(arn, region string, account hearth.Account) (string, bool) {
	name, ok := strings.CutPrefix(arn, "arn:aws:logs:"+region+":"+string(account)+":log-group:")
	name = strings.TrimSuffix(name, ":*")
	return name, ok && name != "" && len(name) <= 512 && !strings.Contains(name, ":")
}

// DeleteStage deletes a stage that no host name shows.
func (s *Service) DeleteStage(ctx context.Context, account hearth.Account, api, name string) error {
	err := s.change(ctx, account, api, func(r *record) error {
		if r.Stages[name] == nil {
			return notFound("Stage", name)
		}
		if host := s.shownBy(api, name); host != "" {
			return conflict("The stage %s can't be deleted while the domain name %s has an API mapping to it: delete the mapping first.", name, host)
		}
		delete(r.Stages, name)
		return nil
	})
	if err == nil {
		s.sockets.end(websocket.StatusGoingAway, "the stage is gone", func(n *socket) bool { return n.api == api && n.stage == name })
	}
	return err
}

// DeleteAccessLog has a stage's requests written down no more.
func (s *Service) DeleteAccessLog(ctx context.Context, account hearth.Account, api, name string) error {
	_, err := s.UpdateStage(ctx, account, api, name, func(n *Stage) error {
		n.AccessLog = nil
		return nil
	})
	return err
}

// DeleteRouteSettings has the route of a key bounded as the stage's others.
func (s *Service) DeleteRouteSettings(ctx context.Context, account hearth.Account, api, name, key string) error {
	_, err := s.UpdateStage(ctx, account, api, name, func(n *Stage) error {
		return forget(n.RouteSettings, "RouteSettings", key)
	})
	return err
}

// Deployments lists the deployments of an API.
func (s *Service) Deployments(account hearth.Account, api string, p Page) ([]*Deployment, string, error) {
	r, err := s.api(account, api)
	if err != nil {
		return nil, "", err
	}
	found, next := page(r.deployments, p, nil)
	list := make([]*Deployment, len(found))
	for i, d := range found {
		list[i] = &d.Deployment
	}
	return list, next, nil
}

// Deployment finds a deployment.
func (s *Service) Deployment(account hearth.Account, api, id string) (*Deployment, error) {
	r, err := s.api(account, api)
	if err != nil {
		return nil, err
	}
	if d := r.deployments[id]; d != nil {
		return &d.Deployment, nil
	}
	return nil, notFound("Deployment", id)
}

// Deploy keeps the API as it is now, and has the stage show it if that is not
// "".
func (s *Service) Deploy(ctx context.Context, account hearth.Account, api, stage, description string) (out *Deployment, _ error) {
	err := s.change(ctx, account, api, func(r *record) error {
		if err := limit("deployments", len(r.deployments), maxDeployments); err != nil {
			return err
		}
		if len(r.Routes) == 0 {
			return invalid("At least one route is required before deploying the API.")
		}
		d := &deployment{Content: r.current(), Deployment: Deployment{
			Created: s.now(), ID: newID(6), Status: "DEPLOYED", Description: description,
		}}
		if stage != "" {
			n := r.Stages[stage]
			switch {
			case n == nil:
				return notFound("Stage", stage)
			case n.AutoDeploy:
				return invalid("Deployment creation is not allowed for stage %s with AutoDeploy enabled.", stage)
			}
			r.Stages[stage] = n.at(d.ID)
		}
		r.deployments[d.ID] = d
		out = &d.Deployment
		return nil
	})
	return out, err
}

// UpdateDeployment changes a deployment's description, unless that is nil.
func (s *Service) UpdateDeployment(ctx context.Context, account hearth.Account, api, id string, description *string) (out *Deployment, _ error) {
	err := s.change(ctx, account, api, func(r *record) error {
		old := r.deployments[id]
		if old == nil {
			return notFound("Deployment", id)
		}
		n := *old
		if description != nil {
			n.Description = *description
		}
		r.deployments[id] = &n
		out = &n.Deployment
		return nil
	})
	return out, err
}

// DeleteDeployment deletes a deployment that no stage shows.
func (s *Service) DeleteDeployment(ctx context.Context, account hearth.Account, api, id string) error {
	return s.change(ctx, account, api, func(r *record) error {
		if r.deployments[id] == nil {
			return notFound("Deployment", id)
		}
		for _, stage := range r.Stages {
			if stage.DeploymentID == id {
				return invalid("Active stages pointing to this deployment must be moved or deleted: %s", stage.Name)
			}
		}
		delete(r.deployments, id)
		return nil
	})
}
