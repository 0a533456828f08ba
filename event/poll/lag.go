package poll

import (
	"context"
	"time"
)

// Lagger is a Source that can tell how many records wait in it that were not
// processed.
type Lagger interface {
	Lag(ctx context.Context) (int64, error)
}

// lagEvery is how often a source is asked how much waits, and lagTime how long
// it may take to tell.
const (
	lagEvery = 15 * time.Second
	lagTime  = 5 * time.Second
)

// watchLag keeps the kind's lag up to date with what the source tells, until
// ctx ends: the lags of a kind's mappings are added up.
func (r *run) watchLag(ctx context.Context, l Lagger) {
	gauge := r.cfg.Metrics.lag.WithLabelValues(string(r.kind))
	var told int64
	defer func() { gauge.Sub(float64(told)) }()
	for {
		asking, cancel := context.WithTimeout(ctx, lagTime)
		n, err := l.Lag(asking)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.log.Debug("an event source did not tell how much waits in it", "error", err)
		default:
			gauge.Add(float64(n - told))
			told = n
		}
		if sleep(ctx, r.cfg.Clock, lagEvery) != nil {
			return
		}
	}
}
