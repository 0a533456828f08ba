package apigateway

import (
	"hash/fnv"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/registry"
	"github.com/hearth-faas/hearth/worker/logs"

	"golang.org/x/time/rate"
)

// table is how an API is served. It is made anew at each change and never
// changed; only what counts and remembers (limiters, what authorizers said)
// goes over from one to the next. A request is served by one table to its end.
type table struct {
	id      string
	account hearth.Account
	closed  bool // it is served by its host names only
	// websocket is whether it is a WebSocket API.
	websocket bool
	stages    map[string]*stage
}

// stage is a stage of a table, as its deployment has it.
type stage struct {
	*Stage
	cors        *registry.CORS
	routes      []*route // in the order in which they are tried
	authorizers map[string]*authorizer
	limiter     *limiter // of routes that have no settings of their own
	log         *accessLog
	selection   *template // of the routes of messages; nil unless it is a WebSocket API's
}

// route is a route of a stage.
type route struct {
	*Route
	key         RouteKey
	integration *integration // nil if it has none
	authorizer  *authorizer  // nil unless the authorization is JWT or CUSTOM
	limiter     *limiter
	detailed    bool // it has metrics of its own
}

// integration is an integration of a stage, with the stage's variables put in.
type integration struct {
	*Integration
	mappings
	function function // of AWS_PROXY
	// parameters are those of a service's, by name; nil of what has no subtype.
	parameters map[string]*template
	url        *template // of HTTP_PROXY; only variables of the path are left
	mock       *mock     // of MOCK
	broken     string    // why it can't be called; "" if it can
}

// show has an API served as the record says. Calls for one API follow one
// another.
func (s *Service) show(r *record) {
	old := s.table(r.API.ID)
	t := &table{id: r.API.ID, account: r.Account, closed: r.API.DisableEndpoint, websocket: r.websocket(), stages: map[string]*stage{}}
	for name, n := range r.Stages {
		d := r.deployments[n.DeploymentID]
		if d == nil {
			continue // there is nothing to show yet
		}
		var was *stage
		if old != nil {
			was = old.stages[name]
		}
		t.stages[name] = s.compile(r, n, &d.Content, was)
	}
	s.tables.Store(r.API.ID, t)
}

// compile makes a stage; was is the one of the table before, or nil.
func (s *Service) compile(r *record, n *Stage, c *shown, was *stage) *stage {
	if was == nil {
		was = &stage{Stage: &Stage{}}
	}
	st := &stage{Stage: n, cors: c.CORS, authorizers: map[string]*authorizer{}}
	st.limiter = nextLimiter(was.limiter, *n.Default)
	st.log = s.accessLog(r, n, was)
	for id, a := range c.Authorizers {
		if before := was.authorizers[id]; before != nil && reflect.DeepEqual(before.Authorizer, a) && maps.Equal(was.Variables, n.Variables) {
			st.authorizers[id] = before
		} else {
			st.authorizers[id] = s.compileAuthorizer(a, n.Variables)
		}
	}
	integrations := map[string]*integration{}
	for id, i := range c.Integrations {
		integrations[id] = s.compileIntegration(i, n.Variables, r.websocket())
	}
	for _, decl := range c.Routes {
		key, err := r.routeKey(decl.Key)
		if err != nil {
			s.Log.Error("a stored route can't be read", "api", r.API.ID, "route", decl.ID, "error", err)
			continue
		}
		next := &route{
			Route: decl, key: key, authorizer: st.authorizers[decl.AuthorizerID], limiter: st.limiter, detailed: n.Default.DetailedMetrics,
			integration: integrations[strings.TrimPrefix(decl.Target, "integrations/")],
		}
		if settings, ok := n.RouteSettings[decl.Key]; ok {
			var before *limiter
			if i := slices.IndexFunc(was.routes, func(r *route) bool { return r.Key == decl.Key }); i >= 0 && was.routes[i].limiter != was.limiter {
				before = was.routes[i].limiter
			}
			next.limiter, next.detailed = nextLimiter(before, settings), settings.DetailedMetrics
		}
		st.routes = append(st.routes, next)
	}
	if r.websocket() {
		var err error
		if st.selection, err = parseTemplate(r.API.RouteSelection, requestSources); err != nil { // it was checked
			s.Log.Error("a stored route selection expression can't be read", "api", r.API.ID, "error", err)
			st.selection = &template{}
		}
		return st
	}
	slices.SortFunc(st.routes, func(a, b *route) int { return compareKeys(a.key, b.key) })
	return st
}

// fill puts a stage's variables into a text.
func fill(text string, variables map[string]string, allowed sources) (string, error) {
	t, err := parseTemplate(text, allowed)
	if err != nil {
		return "", err
	}
	return t.text(func(source, name string) (string, bool) {
		if source == "path" {
			return "${path." + name + "}", true // for later
		}
		v, ok := variables[name]
		return v, ok
	}), nil
}

func (s *Service) compileIntegration(i *Integration, variables map[string]string, websocket bool) *integration {
	n := &integration{Integration: i}
	if err := n.compile(websocket); err != nil {
		n.broken = message(err)
		return n
	}
	if i.Type == "MOCK" || i.Subtype != "" {
		return n
	}
	if i.Type == "AWS_PROXY" {
		uri, err := fill(i.URI, variables, stageVariables)
		if err != nil {
			n.broken = message(err)
		} else if f, ok := parseFunction(uri, s.Region); ok {
			n.function = f
		} else {
			n.broken = "with the stage's variables " + uri + " is no function"
		}
		return n
	}
	uri, err := fill(braced(i.URI), variables, stageVariables|pathVariables)
	if err == nil {
		n.url, err = parseTemplate(uri, pathVariables)
	}
	if err != nil {
		n.broken = message(err)
	}
	return n
}

// compile reads the mappings and templates.
func (i *integration) compile(websocket bool) (err error) {
	switch {
	case i.Subtype != "":
		if i.parameters, err = compileSubtype(i.Integration); err == nil {
			i.response, err = compileResponses(i.Integration)
		}
	case !websocket:
		i.mappings, err = compileMappings(i.Integration)
	case i.Type == "MOCK":
		i.mock, err = compileMock(i.Integration)
	default:
		i.mappings, err = compileSocketMappings(i.Integration)
	}
	return err
}

// find is the route for a request, or nil, and the values of its variables.
func (st *stage) find(method, path string) (*route, map[string]string) {
	segments := segmentsOf(path)
	for _, r := range st.routes {
		if r.key.match(method, segments) {
			return r, r.key.variables(segments)
		}
	}
	return nil, nil
}

func (s *Service) table(id string) *table {
	if t, ok := s.tables.Load(id); ok {
		return t.(*table)
	}
	return nil
}

// limiter bounds how often routes are called.
type limiter struct {
	settings RouteSettings
	*rate.Limiter
}

// nextLimiter is old if the bounds are the same; nil if there are none.
func nextLimiter(old *limiter, t RouteSettings) *limiter {
	if t.Rate == nil && t.Burst == nil {
		return nil
	}
	if old != nil && reflect.DeepEqual(old.settings, t) {
		return old
	}
	most, burst := rate.Inf, 0
	if t.Rate != nil {
		most = rate.Limit(*t.Rate)
		burst = max(1, int(*t.Rate)) // where nothing is said of it
	}
	if t.Burst != nil {
		burst = *t.Burst
		if t.Rate == nil {
			most = rate.Limit(burst)
		}
	}
	if most == 0 || burst == 0 { // a route that is switched off
		most, burst = 0, 0
	}
	return &limiter{t, rate.NewLimiter(most, burst)}
}

// host is a host name that is served.
type host struct {
	mappings []Mapping // the longest key first
}

// showHosts has requests for host names served by the mappings that there are.
func (s *Service) showHosts() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := make(map[string]*host, len(s.domains))
	for name, d := range s.domains {
		h := &host{}
		for _, mapping := range d.Mappings {
			h.mappings = append(h.mappings, *mapping)
		}
		slices.SortFunc(h.mappings, func(a, b Mapping) int {
			if n := len(b.Key) - len(a.Key); n != 0 {
				return n
			}
			return strings.Compare(a.Key, b.Key)
		})
		m[name] = h
	}
	s.hosts.Store(&m)
}

// find is the mapping for a path, and what of the path is the API's.
func (h *host) find(path string) (m *Mapping, rest string) {
	for i := range h.mappings {
		m := &h.mappings[i]
		if m.Key == "" {
			return m, path
		}
		if rest, ok := strings.CutPrefix(path, "/"+m.Key); ok && (rest == "" || rest[0] == '/') {
			if rest == "" {
				rest = "/"
			}
			return m, rest
		}
	}
	return nil, ""
}

// hostID makes an id of a host name.
func hostID(name string) string {
	h := fnv.New64a()
	h.Write([]byte(name)) // never fails
	return strconv.FormatUint(h.Sum64(), 36)
}

// accessLog is where a stage's requests are written down.
type accessLog struct {
	settings AccessLog
	format   *template
	stream   logs.Appender
}

// accessLog is the stage's, or nil.
func (s *Service) accessLog(r *record, n *Stage, was *stage) *accessLog {
	if n.AccessLog == nil || s.Logs == nil {
		return nil
	}
	if was.log != nil && was.log.settings == *n.AccessLog {
		return was.log
	}
	group, ok := logGroup(n.AccessLog.Destination, s.Region, r.Account)
	if !ok {
		return nil
	}
	return &accessLog{*n.AccessLog, parseLogFormat(n.AccessLog.Format), s.Logs.Appender(r.Account, group, r.API.ID+"/"+n.Name+"/"+newID(8))}
}

// authorizer is an authorizer of a stage.
type authorizer struct {
	*Authorizer
	source   []*template // of the identity
	function function    // of REQUEST
	broken   string

	mu     sync.Mutex
	said   map[string]opinion // by identity
	number uint64             // grows at each reset, so that answers from before are not kept
}

func (s *Service) compileAuthorizer(a *Authorizer, variables map[string]string) *authorizer {
	n := &authorizer{Authorizer: a}
	for _, source := range a.IdentitySource {
		t, err := parseTemplate(identitySource(source), requestSources|contextSources|stageVariables)
		if err != nil {
			n.broken = message(err)
			return n
		}
		n.source = append(n.source, t)
	}
	if a.Type == "REQUEST" {
		uri, err := fill(a.URI, variables, stageVariables)
		f, ok := parseFunction(uri, s.Region)
		if err != nil || !ok {
			n.broken = "with the stage's variables " + uri + " is no function"
		}
		n.function = f
	}
	return n
}
