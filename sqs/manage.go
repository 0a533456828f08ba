package sqs

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth"
)

// maxTags is how many tags a queue may have.
const maxTags = 50

// Create makes a queue. That there is one already with the same attributes is
// no error. Errors: QueueExists, those of attributes, Service.
func (s *Service) Create(ctx context.Context, account hearth.Account, name string, attributes, tags map[string]string) error {
	if err := checkName(name); err != nil {
		return err
	}
	fifo := strings.HasSuffix(name, ".fifo")
	switch asked := strings.ToLower(attributes["FifoQueue"]); {
	case asked == "true" && !fifo:
		return hearth.Errorf(InvalidParameter, "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in length")
	case asked != "true" && fifo:
		return hearth.Errorf(InvalidParameter, "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length: a name that ends with .fifo needs the attribute FifoQueue to be true")
	case asked == "false":
		return hearth.Errorf(InvalidAttribute, "Unknown Attribute FifoQueue.")
	}
	if err := checkTags(tags); err != nil {
		return err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if q, err := s.find(account, name); err == nil {
		return q.same(attributes)
	}
	now := s.now() / 1000
	r := &queueRecord{ID: key(s.number(1)), Account: account, Name: name, Created: now, Modified: now, Attributes: maps.Clone(attributes), Tags: maps.Clone(tags)}
	set, err := parseSettings(r)
	if err != nil {
		return err
	}
	q := s.newQueue(r, set)
	if err := s.record(r); err != nil {
		return stored("Create", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queues[queueKey(account, name)] = q
	return nil
}

// same tells whether a queue has the attributes.
func (q *queue) same(asked map[string]string) error {
	has := q.set.Load().attributes()
	for name, value := range asked {
		if _, ok := attributes[name]; !ok {
			return hearth.Errorf(InvalidAttribute, "Unknown Attribute %s.", name)
		}
		if !sameValue(has[name], value) {
			return hearth.Errorf(QueueExists, "A queue already exists with the same name and a different value for attribute %s", name)
		}
	}
	return nil
}

// sameValue compares values of an attribute: those that are JSON by what they
// mean.
func sameValue(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	p, perr := json.Marshal(x)
	r, rerr := json.Marshal(y)
	return perr == nil && rerr == nil && string(p) == string(r)
}

// record writes a queue's record.
func (s *Service) record(r *queueRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.journal.do([]write{{queuesBucket, queueKey(r.Account, r.Name), b}})
}

// configure changes a queue's record.
func (s *Service) configure(account hearth.Account, name string, change func(r *queueRecord) error) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	q, err := s.find(account, name)
	if err != nil {
		return err
	}
	r := *q.set.Load().record
	r.Attributes, r.Tags = maps.Clone(r.Attributes), maps.Clone(r.Tags)
	if r.Attributes == nil {
		r.Attributes = map[string]string{}
	}
	if r.Tags == nil {
		r.Tags = map[string]string{}
	}
	if err := change(&r); err != nil {
		return err
	}
	set, err := parseSettings(&r)
	if err != nil {
		return err
	}
	if err := s.record(&r); err != nil {
		return stored("SetAttributes", err)
	}
	q.adopt(set)
	return nil
}

// adopt has new settings count, for the messages too that are there.
func (q *queue) adopt(set *settings) {
	q.mu.Lock()
	defer q.unlock()
	old := q.set.Swap(set)
	if old.retention != set.retention {
		for _, m := range q.agenda {
			m.wakes = q.wakesAt(m)
		}
		for i := len(q.agenda)/2 - 1; i >= 0; i-- {
			q.agenda.down(i)
		}
	}
	q.settle(q.s.now())
	if set.redrive != nil && (old.redrive == nil || *old.redrive != *set.redrive) {
		for _, m := range q.messages {
			q.exhausted(m)
		}
	}
}

// SetAttributes sets some of a queue's attributes; "" unsets one. Errors:
// NoQueue, those of attributes, Service.
func (s *Service) SetAttributes(_ context.Context, account hearth.Account, name string, set map[string]string) error {
	if len(set) == 0 {
		return missing("Attribute.Name")
	}
	return s.configure(account, name, func(r *queueRecord) error {
		for name, value := range set {
			if a, ok := attributes[name]; name == "FifoQueue" && !strings.EqualFold(value, r.Attributes[name]) || ok && a.fifoOnly && r.Attributes["FifoQueue"] == "" {
				return hearth.Errorf(InvalidAttribute, "You can specify the %s only when a FIFO queue is made.", name)
			}
			if r.Attributes[name] = value; value == "" {
				delete(r.Attributes, name)
			}
		}
		r.Modified = s.now() / 1000
		return nil
	})
}

// attributes are those of a queue that can be set, as they are in force.
func (s *settings) attributes() map[string]string {
	has := map[string]string{}
	for name, a := range attributes {
		if value := s.record.Attributes[name]; value != "" {
			has[name] = value
		} else if a.initial != "" && (!a.fifoOnly || s.fifo) {
			has[name] = a.initial
		}
	}
	return has
}

// counted are the attributes that cannot be set.
var counted = []string{
	"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed", "ApproximateNumberOfMessagesNotVisible",
	"CreatedTimestamp", "LastModifiedTimestamp", "QueueArn",
}

// Attributes returns those of a queue's attributes that have the names; All is
// all of them. The counts of messages are exact. Errors: NoQueue,
// InvalidAttribute.
func (s *Service) Attributes(_ context.Context, account hearth.Account, name string, names []string) (map[string]string, error) {
	q, err := s.find(account, name)
	if err != nil {
		return nil, err
	}
	set := q.set.Load()
	has := set.attributes()
	q.lock()
	c := q.counts
	q.unlock()
	has["ApproximateNumberOfMessages"] = strconv.Itoa(c[visible] + c[moving])
	has["ApproximateNumberOfMessagesDelayed"] = strconv.Itoa(c[delayed])
	has["ApproximateNumberOfMessagesNotVisible"] = strconv.Itoa(c[inFlight])
	has["CreatedTimestamp"] = strconv.FormatInt(set.record.Created, 10)
	has["LastModifiedTimestamp"] = strconv.FormatInt(set.record.Modified, 10)
	has["QueueArn"] = q.arn
	asked := map[string]string{}
	for _, n := range names {
		if _, settable := attributes[n]; n != "All" && !settable && !slices.Contains(counted, n) {
			return nil, hearth.Errorf(InvalidAttribute, "Unknown Attribute %s.", n)
		}
		if n == "All" {
			return has, nil
		}
		if value, ok := has[n]; ok {
			asked[n] = value
		}
	}
	return asked, nil
}

// Exists tells whether there is the queue. Errors: NoQueue.
func (s *Service) Exists(account hearth.Account, name string) error {
	_, err := s.find(account, name)
	return err
}

// List returns the names of an account's queues that begin with prefix and
// come after another, in order: at most max, and whether others follow.
func (s *Service) List(account hearth.Account, prefix, after string, max int) (names []string, more bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, q := range s.queues {
		if q.account == account && strings.HasPrefix(q.name, prefix) && q.name > after {
			names = append(names, q.name)
		}
	}
	slices.Sort(names)
	if len(names) > max {
		return names[:max], true
	}
	return names, false
}

// Sources returns the names of the queues that give up messages to a queue, as
// List does. Errors: NoQueue.
func (s *Service) Sources(account hearth.Account, name, after string, max int) (names []string, more bool, err error) {
	to, err := s.find(account, name)
	if err != nil {
		return nil, false, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, q := range s.queues {
		if r := q.set.Load().redrive; q.account == account && r != nil && r.target == to.arn && q.name > after {
			names = append(names, q.name)
		}
	}
	slices.Sort(names)
	if len(names) > max {
		return names[:max], true, nil
	}
	return names, false, nil
}

// Delete removes a queue and its messages. Who waits for one is told that
// there is no such queue. Errors: NoQueue, Service.
func (s *Service) DeleteQueue(_ context.Context, account hearth.Account, name string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	q, err := s.find(account, name)
	if err != nil {
		return err
	}
	if err := s.journal.do([]write{{queuesBucket, queueKey(account, name), nil}}); err != nil {
		return stored("DeleteQueue", err)
	}
	s.mu.Lock()
	delete(s.queues, queueKey(account, name))
	s.mu.Unlock()
	q.mu.Lock()
	q.deleted = true
	q.wake(len(q.waiters))
	q.empty()
	for _, e := range q.fading {
		q.forget(e)
	}
	q.fading = nil
	q.unlock()
	return nil
}

// purgeEvery is how long a queue cannot be purged again, in milliseconds.
const purgeEvery = 60_000

// Purge removes all messages of a queue that were sent before. Errors:
// NoQueue, PurgeInProgress within a minute of the last, Service.
func (s *Service) Purge(_ context.Context, account hearth.Account, name string) error {
	q, err := s.find(account, name)
	if err != nil {
		return err
	}
	if now := s.now(); q.mayPurge(now) {
		return s.configure(account, name, func(r *queueRecord) error {
			// What is numbered later is sent later.
			r.Purged = s.number(1)
			q.mu.Lock()
			defer q.unlock()
			q.purged = r.Purged
			q.empty()
			return nil
		})
	}
	return hearth.Errorf(PurgeInProgress, "Only one PurgeQueue operation on %s is allowed every 60 seconds.", name)
}

func (q *queue) mayPurge(now int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.purging != 0 && now-q.purging < purgeEvery {
		return false
	}
	q.purging = now
	return true
}

// empty removes all messages but those that are leaving anyway. It is not
// waited for: what is left of it at a kill is removed by the next start.
func (q *queue) empty() {
	var writes []write
	end := q.s.logged("messages of a queue that was emptied could not be removed")
	for _, m := range q.messages {
		if m.state == moving {
			continue
		}
		writes = append(writes, q.erased(m)...)
		q.drop(m)
		if len(writes) >= commitWrites/2 {
			q.s.journal.add(writes, end)
			writes = nil
		}
	}
	if len(writes) > 0 {
		q.s.journal.add(writes, end)
	}
}

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return hearth.Errorf(InvalidParameter, "Too many tags added for queue: a queue may have %d.", maxTags)
	}
	for k, v := range tags {
		if k == "" || len(k) > 128 || len(v) > 256 {
			return hearth.Errorf(InvalidParameter, "The tag %q is not valid: a key has 1 to 128 bytes, a value up to 256.", k)
		}
	}
	return nil
}

// Tags returns a queue's tags, which must not be changed. Errors: NoQueue.
func (s *Service) Tags(account hearth.Account, name string) (map[string]string, error) {
	q, err := s.find(account, name)
	if err != nil {
		return nil, err
	}
	return q.set.Load().record.Tags, nil
}

// Tag sets some of a queue's tags and removes others. Errors: NoQueue,
// InvalidParameter, Service.
func (s *Service) Tag(_ context.Context, account hearth.Account, name string, set map[string]string, remove []string) error {
	return s.configure(account, name, func(r *queueRecord) error {
		maps.Copy(r.Tags, set)
		for _, k := range remove {
			delete(r.Tags, k)
		}
		return checkTags(r.Tags)
	})
}
