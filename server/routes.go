package server

import (
	"io"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/lambda/sigv4"
)

// routes tells Hearth's own few paths from those of the AWS APIs, which take
// everything else.
func (s *Server) routes(api http.Handler) http.Handler {
	verifier := sigv4.New(s.authority, s.clock, s.cfg.Region, control.SigningService)
	verifier.Guard = &s.guard
	own := &control.Handler{
		Authenticate: func(r *http.Request, body []byte) (hearth.Identity, error) {
			claim, err := verifier.Verify(r, body)
			return claim.Identity, err
		},
		Instances: instances{s},
		Decisions: decisions{s.decisions},
		Runtimes:  runtimeList{s.runtimes},
		Doctor:    doctor{s},
		Logs:      logLines{s},
		Parked:    parkedEvents{s},
		BusEvents: busEvents{s.buses},
		Policies:  executionPolicies{s},
		Sizes:     sizes{s.manager},
		Nodes:     nodeList{s},
		Sources:   registeredSources{s},

		Idempotence: idempotence{s},
		Predictions: predictions{s.predictor},
		Capacities:  kinds{s},
		Learned:     learned{s},
		Audits:      audits{s},
		Backfills:   s.backfills,
		Bills:       s.meter,
		Tasks:       taskAPIs{s.tasks},
		Shares:      shares{s.shares},
		Accounts:    accountList{s},
		MasterKey:   masterKey{s},
		Proxies:     s.proxies,
		Access:      verdicts{s},

		Authorize: s.authorize,
		Region:    s.cfg.Region,

		Operator: s.accounts.Operator(),

		Audit: s.audit, Replays: &s.seen,

		Log: s.log,
	}
	metrics := promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case strings.HasPrefix(path, control.Prefix+"/"):
			own.ServeHTTP(w, r)
		case path == control.HealthPath:
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = io.WriteString(w, "ok\n") // a prober that left needs no answer
		case path == "/metrics" && s.cfg.Metrics:
			metrics.ServeHTTP(w, r)
		default:
			api.ServeHTTP(w, r)
		}
	})
}
