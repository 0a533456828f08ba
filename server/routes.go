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
	own := &control.Handler{
		Authenticate: func(r *http.Request) (hearth.Identity, error) {
			claim, err := verifier.Verify(r, nil)
			return claim.Identity, err
		},
		Instances: instances{s.manager, s.cfg},
		Decisions: decisions{s.decisions},
		Runtimes:  runtimeList{s.runtimes},
		Doctor:    doctor{s},
		Logs:      logLines{s},
		Log:       s.log,
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
