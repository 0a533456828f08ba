package manager

import (
	"context"
	"slices"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/history"
)

// openSeasons reads what was learned of the pool's times of the week.
func (m *Manager) openSeasons() (err error) {
	m.seasons, err = history.Open[Season](context.Background(), history.Config{
		Store: m.cfg.Records, Bucket: "pool-season", Clock: m.clock, Log: m.cfg.Log,
	})
	if err != nil {
		return err
	}
	m.fixed.pool.seasons = map[hearth.Boot]Season{}
	m.seasons.Each(func(name string, e *history.Entry[Season]) {
		e.View(func(s *Season) {
			m.fixed.pool.seasons[bootOf(name)] = Season{Slot: s.Slot, Most: slices.Clone(s.Most), Seen: s.Seen, Last: s.Last}
		})
	})
	return nil
}

func bootOf(name string) hearth.Boot {
	if name == bootName("") {
		return ""
	}
	return hearth.Boot(name)
}

// keepSeasons hands on what was learned since it was called last.
func (m *Manager) keepSeasons(now time.Time) {
	learned := map[hearth.Boot]Season{}
	m.mu.Lock()
	for b, sh := range m.fixed.pool.shelves {
		m.trend.roll(&sh.takes, now)
		if s := sh.takes.Season; s.Last != sh.learned {
			sh.learned = s.Last
			s.Most = slices.Clone(s.Most)
			learned[b] = s
		}
	}
	m.mu.Unlock()
	for b, s := range learned {
		m.seasons.Of(bootName(b)).Update(func(kept *Season) { *kept = s })
	}
}
