package poll

import "github.com/hearth-faas/hearth/event/pattern"

// filters are a mapping's patterns, of which one must match.
type filters []*pattern.Pattern

func compile(texts []string) (f filters, _ error) {
	for _, text := range texts {
		p, err := pattern.Compile(text)
		if err != nil {
			return nil, err
		}
		f = append(f, p)
	}
	return f, nil
}

// keep divides records into those that a filter matches, and the others.
func (f filters) keep(s Source, records []*Record) (kept, dropped []*Record) {
	if len(f) == 0 {
		return records, nil
	}
	for _, r := range records {
		if f.match(s.View(r)) {
			kept = append(kept, r)
		} else {
			dropped = append(dropped, r)
		}
	}
	return kept, dropped
}

// match tells whether a filter matches. What is no JSON object matches none.
func (f filters) match(view []byte) bool {
	for _, p := range f {
		if ok, err := p.Match(view); ok && err == nil {
			return true
		}
	}
	return false
}
