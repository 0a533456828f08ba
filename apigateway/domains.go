package apigateway

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"regexp"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

const maxDomains = 120

// Domains lists the host names of the account.
func (s *Service) Domains(account hearth.Account, p Page) (list []*Domain, next string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	found, next := page(s.domains, p, func(d *domain) bool { return d.Account == account })
	list = make([]*Domain, len(found))
	for i, d := range found {
		list[i] = &d.Domain
	}
	return list, next
}

func (s *Service) domain(account hearth.Account, name string) (*domain, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if d := s.domains[strings.ToLower(name)]; d != nil && d.Account == account {
		return d, nil
	}
	return nil, &hearth.Error{Op: "apigateway", Subject: name, Kind: hearth.NotFound, Message: "Invalid domain name identifier specified"}
}

// Domain finds a host name.
func (s *Service) Domain(account hearth.Account, name string) (*Domain, error) {
	d, err := s.domain(account, name)
	if err != nil {
		return nil, err
	}
	return &d.Domain, nil
}

// OwnerOf is whose a host name is; false if it is nobody's, or one that only a
// wildcard stands for. For what gets certificates.
func (s *Service) OwnerOf(host string) (hearth.Account, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if d := s.domains[strings.ToLower(host)]; d != nil {
		return d.Account, true
	}
	return "", false
}

// wildcard is the host name that stands for all with another first label.
func wildcard(host string) string {
	_, rest, _ := strings.Cut(strings.ToLower(host), ".")
	return "*." + rest
}

var hostName = regexp.MustCompile(`^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// CreateDomain takes a host name for the account. Nobody else can have it then.
func (s *Service) CreateDomain(ctx context.Context, account hearth.Account, fill func(*Domain) error) (*Domain, error) {
	d := &domain{Version: recordVersion, Account: account, Mappings: map[string]*Mapping{}}
	if err := fill(&d.Domain); err != nil {
		return nil, err
	}
	n := &d.Domain
	n.Name = strings.ToLower(n.Name)
	if len(n.Name) > 253 || !hostName.MatchString(n.Name) || net.ParseIP(n.Name) != nil {
		return nil, invalid("domainName must be a host name of two labels or more, such as api.example.com: %.260q", n.Name)
	}
	if strings.HasSuffix(n.Name, ".localhost") || strings.HasSuffix(n.Name, ".amazonaws.com") {
		return nil, invalid("Names under localhost and amazonaws.com can't be taken: %s", n.Name)
	}
	for _, own := range s.Own {
		if n.Name == own || n.Name == wildcard(own) {
			return nil, invalid("The domain name %s is this server's own.", n.Name)
		}
	}
	n.MappingSelection = "$request.basepath"
	n.ARN = "arn:aws:apigateway:" + s.Region + "::/domainnames/" + n.Name
	if err := s.checkDomain(n); err != nil {
		return nil, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.RLock()
	taken, have := s.domains[n.Name] != nil, 0
	for _, other := range s.domains {
		if other.Account == account {
			have++
		}
	}
	s.mu.RUnlock()
	switch {
	case taken:
		return nil, conflict("The domain name you provided already exists.")
	case have >= maxDomains:
		return nil, hearth.Errorf(hearth.TooManyRequests, "An account can have at most %d domain names.", maxDomains)
	}
	return n, s.putDomain(ctx, d)
}

// checkDomain fills in what was left out, and refuses what cannot be.
func (s *Service) checkDomain(n *Domain) error {
	if n.RoutingMode == "" {
		n.RoutingMode = "API_MAPPING_ONLY"
	}
	if n.RoutingMode != "API_MAPPING_ONLY" {
		return invalid("Routing rules are not supported by Hearth: use the routingMode API_MAPPING_ONLY.")
	}
	if n.Tags == nil {
		n.Tags = map[string]string{}
	}
	if len(n.Configurations) != 1 {
		return invalid("domainNameConfigurations must have one configuration.")
	}
	c := &n.Configurations[0]
	if c.EndpointType == "" {
		c.EndpointType = "REGIONAL"
	}
	if c.SecurityPolicy == "" {
		c.SecurityPolicy = "TLS_1_2"
	}
	if c.AddressType == "" {
		c.AddressType = "ipv4"
	}
	switch {
	case c.EndpointType != "REGIONAL":
		return invalid("The endpointType must be REGIONAL.")
	case c.SecurityPolicy != "TLS_1_2":
		return invalid("The securityPolicy must be TLS_1_2, which lets TLS 1.3 be spoken too.")
	case c.CertificateARN != "" && !strings.HasPrefix(c.CertificateARN, "arn:"):
		return invalid("certificateArn must be an ARN: %.200q", c.CertificateARN)
	}
	c.Status, c.StatusWhy = "AVAILABLE", ""
	c.Target = "d-" + hostID(n.Name) + ".execute-api." + s.Region + ".localhost"
	c.HostedZone = "ZHEARTHLOCAL"
	return checkTags(n.Tags)
}

// UpdateDomain changes how a host name is reached.
func (s *Service) UpdateDomain(ctx context.Context, account hearth.Account, name string, change func(*Domain) error) (*Domain, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	old, err := s.domain(account, name)
	if err != nil {
		return nil, err
	}
	n, err := copyOf(&old.Domain)
	if err != nil {
		return nil, err
	}
	if err := change(n); err != nil {
		return nil, err
	}
	n.Name, n.ARN, n.MappingSelection = old.Domain.Name, old.Domain.ARN, old.Domain.MappingSelection
	if err := s.checkDomain(n); err != nil {
		return nil, err
	}
	d := *old
	d.Domain = *n
	return n, s.putDomain(ctx, &d)
}

// putDomain writes a host name, and shows it. changing is held.
func (s *Service) putDomain(ctx context.Context, d *domain) error {
	value, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := s.Store.Update(ctx, func(tx store.Tx) error { return tx.Put(domainsBucket, d.Domain.Name, value) }); err != nil {
		return err
	}
	s.mu.Lock()
	s.domains[d.Domain.Name] = d
	s.mu.Unlock()
	s.showHosts()
	return nil
}

// DeleteDomain gives a host name up, with its mappings.
func (s *Service) DeleteDomain(ctx context.Context, account hearth.Account, name string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	d, err := s.domain(account, name)
	if err != nil {
		return err
	}
	name = d.Domain.Name
	if err := s.Store.Update(ctx, func(tx store.Tx) error { return tx.Delete(domainsBucket, name) }); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.domains, name)
	s.mu.Unlock()
	s.showHosts()
	return nil
}

// Mappings lists the mappings of a host name.
func (s *Service) Mappings(account hearth.Account, name string, p Page) ([]*Mapping, string, error) {
	d, err := s.domain(account, name)
	if err != nil {
		return nil, "", err
	}
	list, next := page(d.Mappings, p, nil)
	return list, next, nil
}

// Mapping finds a mapping of a host name.
func (s *Service) Mapping(account hearth.Account, name, id string) (*Mapping, error) {
	d, err := s.domain(account, name)
	if err != nil {
		return nil, err
	}
	if m := d.Mappings[id]; m != nil {
		return m, nil
	}
	return nil, notFound("ApiMapping", id)
}

var mappingKey = regexp.MustCompile(`^[A-Za-z0-9$_.+!*'()-]+(/[A-Za-z0-9$_.+!*'()-]+)*$`)

// PutMapping changes a mapping, or makes one if id is "".
func (s *Service) PutMapping(ctx context.Context, account hearth.Account, name, id string, change func(*Mapping) error) (*Mapping, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	old, err := s.domain(account, name)
	if err != nil {
		return nil, err
	}
	m := Mapping{ID: newID(6)}
	if id != "" {
		have := old.Mappings[id]
		if have == nil {
			return nil, notFound("ApiMapping", id)
		}
		m = *have
	}
	was := m.ID
	if err := change(&m); err != nil {
		return nil, err
	}
	m.ID = was
	if m.Key == "(none)" {
		m.Key = ""
	}
	if m.Key != "" && (len(m.Key) > 300 || !mappingKey.MatchString(m.Key)) {
		return nil, invalid("apiMappingKey is a path without a slash at its ends, such as orders/v1: %.310q", m.Key)
	}
	for _, other := range old.Mappings {
		if other.ID != m.ID && other.Key == m.Key {
			return nil, conflict("ApiMapping key already exists for this domain name")
		}
	}
	r, err := s.api(account, m.APIID)
	if err != nil {
		return nil, err
	}
	if r.Stages[m.Stage] == nil {
		return nil, notFound("Stage", m.Stage)
	}
	d := *old
	d.Mappings = maps.Clone(old.Mappings)
	d.Mappings[m.ID] = &m
	return &m, s.putDomain(ctx, &d)
}

// DeleteMapping deletes a mapping of a host name.
func (s *Service) DeleteMapping(ctx context.Context, account hearth.Account, name, id string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	old, err := s.domain(account, name)
	if err != nil {
		return err
	}
	if old.Mappings[id] == nil {
		return notFound("ApiMapping", id)
	}
	d := *old
	d.Mappings = maps.Clone(old.Mappings)
	delete(d.Mappings, id)
	return s.putDomain(ctx, &d)
}
