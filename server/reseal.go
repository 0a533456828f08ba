package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hearth-faas/hearth/door"
	"github.com/hearth-faas/hearth/identity"
)

// What older data keys have sealed is sealed by the newest in the background, and
// then the older ones are removed. What is done is seen in what is sealed itself,
// by what: so that it goes on after a crash, and in another process that has
// taken the records over.

const (
	// resealBatch is after how many texts that were sealed anew others have a
	// turn, for resealPause: each is a commit of its own.
	resealBatch = 32
	resealPause = 20 * time.Millisecond
	// resealRetry is when it is tried again after an error.
	resealRetry = time.Minute
)

// sealedKind is a kind of things that the data keys seal.
type sealedKind struct {
	name string
	key  *identity.Key
	// each gives visit all of its texts as they are sealed, one at a time, and
	// puts what that returns in their place, unless it is nil. What is sealed
	// while it is called, or after, it need not give, but all that was before.
	// Between two it rests without a lock.
	each func(ctx context.Context, visit func(sealed, associated []byte) ([]byte, error), rest func(context.Context) error) error
}

func (s *Server) sealedKinds() []sealedKind {
	key := s.authority.Key()
	all := []sealedKind{
		{"audit log", key, s.audit.Reseal},
		{"customer keys", s.authority.Keys().Sealing(), s.authority.Keys().Reseal},
	}
	if s.registry == nil { // proxy endpoints alone, of which nothing else is secret
		return all
	}
	return append(all,
		sealedKind{"environments", key, s.registry.Reseal},
		sealedKind{"access keys", key, s.accounts.Keys().Reseal},
		sealedKind{"event sources", key, s.sources.Reseal},
		sealedKind{"shared aliases", key, s.shares.Reseal},
		sealedKind{"idempotent functions", key, s.avoider.Reseal},
		sealedKind{"certificates", key, s.acmeCertificates().Reseal},
	)
}

// acmeCertificates are those that were had by ACME, now or in an earlier start.
func (s *Server) acmeCertificates() *door.Certificates {
	if s.certificates != nil {
		return s.certificates
	}
	return door.OpenCertificates(s.dir("acme"), s.authority.Key())
}

// resealing is the work in the background.
type resealing struct {
	due chan struct{} // has room for one

	mu      sync.Mutex
	busy    bool
	done    int    // sealed anew since the start
	failing string // why it does not end
}

// begin has the work be done, also if it is under way.
func (r *resealing) begin() {
	r.mu.Lock()
	r.busy = true
	r.mu.Unlock()
	select {
	case r.due <- struct{}{}:
	default:
	}
}

func (r *resealing) read() (busy bool, done int, failing string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.busy, r.done, r.failing
}

func (r *resealing) ended(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failing = ""
	if err != nil {
		r.failing = err.Error()
		return
	}
	r.busy = len(r.due) > 0
}

// startResealing begins the work, if an earlier process has left some.
func (s *Server) startResealing() {
	if len(s.authority.Master().DataKeys) > 1 {
		s.resealing.begin()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var retry <-chan time.Time
		for {
			select {
			case <-s.resealing.due:
			case <-retry:
			case <-ctx.Done():
				return
			}
			err := s.reseal(ctx)
			if ctx.Err() != nil {
				return
			}
			s.resealing.ended(err)
			if retry = nil; err != nil {
				s.log.Warn("not everything is sealed by the newest data key yet, and the older ones stay", "error", err, "retryIn", resealRetry)
				retry = time.After(resealRetry)
			}
		}
	}()
	s.opened("resealing", func() error {
		cancel()
		<-done
		return nil
	})
}

// reseal has everything sealed by the current data key, and removes the others.
func (s *Server) reseal(ctx context.Context) error {
	current, n := s.authority.Current(), 0
	rest := func(ctx context.Context) error {
		if n < resealBatch {
			return ctx.Err()
		}
		n = 0
		select {
		case <-time.After(resealPause):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var bad error
	total := 0
	for _, kind := range s.sealedKinds() {
		closed := 0
		visit := func(sealed, associated []byte) ([]byte, error) {
			again, err := kind.key.Again(sealed, associated)
			if errors.Is(err, identity.ErrSealed) {
				closed++ // the others go on
				return nil, nil
			}
			if again != nil {
				n, total = n+1, total+1
				s.resealing.mu.Lock()
				s.resealing.done++
				s.resealing.mu.Unlock()
			}
			return again, err
		}
		if err := kind.each(ctx, visit, rest); err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
		if closed > 0 {
			bad = errors.Join(bad, fmt.Errorf("%s: %d are damaged and do not open", kind.name, closed))
		}
	}
	if bad != nil {
		return bad
	}
	removed, err := s.authority.Forget(ctx, current)
	if removed {
		s.log.Info("everything is sealed by the newest data key; the older ones are removed", "dataKey", current, "sealedAnew", total)
	}
	return err
}

// countSealed counts what each data key has sealed, by kind.
func (s *Server) countSealed(ctx context.Context) (map[uint32]map[string]int, error) {
	counts := map[uint32]map[string]int{}
	for _, kind := range s.sealedKinds() {
		err := kind.each(ctx, func(sealed, _ []byte) ([]byte, error) {
			g := identity.Generation(sealed)
			if counts[g] == nil {
				counts[g] = map[string]int{}
			}
			counts[g][kind.name]++
			return nil, nil
		}, func(ctx context.Context) error { return ctx.Err() })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind.name, err)
		}
	}
	return counts, nil
}
