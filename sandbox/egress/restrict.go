package egress

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/sandbox/egress/allow"
)

// restriction is what a link may reach at most. The network's policy holds
// beside it. Names are enforced by what they were resolved to here: a query is
// passed on for the names of the list alone, without anything that the container
// put beside the question, and the addresses of the answer may be reached at the
// ports of the name while the answer is good.
type restriction struct {
	list  *allow.List
	clock hearth.Clock

	mu      sync.Mutex
	learned map[netip.Addr]map[string]time.Time // by address and name: until when
}

// What is learned of a name lives as long as the answer says, within bounds: a
// program that resolves once must have time to connect. There is room for so many
// addresses.
const (
	leastLearned = time.Minute
	mostLearned  = time.Hour
	maxLearned   = 4096
)

// Restrict bounds what the container may reach from now on: nil leaves it open.
// It is called before there is code of anybody's in the container, and once.
func (l *link) Restrict(p *hearth.NetworkPolicy) error {
	if p == nil || p.Open {
		return nil
	}
	list, err := allow.Parse(p.Allow)
	r := &restriction{list: list, clock: l.network.config.Clock, learned: map[netip.Addr]map[string]time.Time{}}
	if err != nil {
		r.list = &allow.List{} // nothing
	}
	l.restriction.Store(r)
	return err
}

// reasonNotListed is why a restriction refuses.
const reasonNotListed = "not a destination that the caller allows"

// allows reports whether the link's own restriction lets it reach a destination.
func (l *link) allows(to netip.AddrPort) bool {
	r := l.restriction.Load()
	if r == nil || r.allows(to) {
		return true
	}
	if refused := l.network.config.Refused; refused != nil {
		refused(l.id, to, reasonNotListed)
	}
	return false
}

// open reports whether what is Hearth's own may be reached: the API, by which a
// container could hand on what it was given, and the resolver by TCP.
func (l *link) open() bool { return l.restriction.Load() == nil }

func (r *restriction) allows(to netip.AddrPort) bool {
	if r.list.Address(to) {
		return true
	}
	now := r.clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, until := range r.learned[to.Addr().Unmap()] {
		if now.Before(until) && r.list.Port(name, to.Port()) {
			return true
		}
	}
	return false
}

// question is what a query asks, made anew; ok is false if it may not be asked.
func (r *restriction) question(query []byte) (name string, clean []byte, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response || h.OpCode != 0 {
		return "", nil, false
	}
	q, err := p.Question()
	if err != nil || q.Class != dnsmessage.ClassINET || q.Type != dnsmessage.TypeA && q.Type != dnsmessage.TypeAAAA {
		return "", nil, false
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return "", nil, false
	}
	name = q.Name.String()
	if !r.list.Name(name) {
		return "", nil, false
	}
	// In lower case: nor can letters carry anything.
	if q.Name, err = dnsmessage.NewName(strings.ToLower(name)); err != nil {
		return "", nil, false
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, RecursionDesired: true}, Questions: []dnsmessage.Question{q}}
	clean, err = m.Pack()
	return name, clean, err == nil
}

// learn takes from an answer what the name may be reached at.
func (r *restriction) learn(name string, answer []byte) {
	var p dnsmessage.Parser
	if _, err := p.Start(answer); err != nil || p.SkipAllQuestions() != nil {
		return
	}
	now := r.clock.Now()
	for {
		h, err := p.AnswerHeader()
		if err != nil {
			return
		}
		if h.Type != dnsmessage.TypeA || h.Class != dnsmessage.ClassINET {
			if p.SkipAnswer() != nil {
				return
			}
			continue
		}
		a, err := p.AResource()
		if err != nil {
			return
		}
		r.note(netip.AddrFrom4(a.A), name, now, time.Duration(h.TTL)*time.Second)
	}
}

func (r *restriction) note(a netip.Addr, name string, now time.Time, ttl time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.learned) >= maxLearned && r.learned[a] == nil {
		clear(r.learned) // what is needed is asked for again
	}
	if r.learned[a] == nil {
		r.learned[a] = map[string]time.Time{}
	}
	r.learned[a][strings.ToLower(name)] = now.Add(min(max(ttl, leastLearned), mostLearned))
}

const dnsRefused = 5 // in the fourth byte

// refusedAnswer is the answer to what may not be asked.
func refusedAnswer(query []byte) []byte {
	b := serverFailure(query)
	b[3] = dnsAvailable | dnsRefused
	return b
}

// restoreQuestion puts the question as the container asked it into an answer, as
// its resolver compares them.
func restoreQuestion(answer, query []byte) {
	end := questionEnd(query)
	if end == 0 || len(answer) < end || binary.BigEndian.Uint16(answer[4:]) != 1 || questionEnd(answer[:end]) != end {
		return
	}
	copy(answer[dnsHeaderLen:end], query[dnsHeaderLen:end])
}
