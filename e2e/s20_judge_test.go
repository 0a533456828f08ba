package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// growingBucket is a store of small objects that speaks as much of S3 as a
// listing takes. Its pages are in an order of their own, overlap, and have keys
// again that were on earlier ones; and objects come.
type growingBucket struct {
	*httptest.Server
	mu   sync.Mutex
	made []time.Time // when object n was
	asks int
}

func newGrowingBucket(t *testing.T, n int) *growingBucket {
	b := &growingBucket{made: make([]time.Time, n)}
	for i := range b.made {
		b.made[i] = time.Now().Add(-time.Hour)
	}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

func (b *growingBucket) grow(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range n {
		b.made = append(b.made, time.Now())
	}
}

func (b *growingBucket) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.made)
}

// page is what is on a page that begins with an object.
func (b *growingBucket) page(from, most int) (keys []int, next int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	end := min(from+most*8/10, len(b.made))
	for i := from; i < end; i++ {
		if keys = append(keys, i); i > 0 && rand.IntN(10) == 0 && len(keys) < most {
			keys = append(keys, rand.IntN(i)) // again
		}
	}
	rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	if end == len(b.made) {
		return keys, -1
	}
	return keys, max(end-most/20, from+1) // the last of this page are on the next too
}

func (b *growingBucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from, most := 0, 1000
	q := r.URL.Query()
	if q.Get("list-type") != "2" || strings.Trim(r.URL.Path, "/") != "set" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	for name, into := range map[string]*int{"continuation-token": &from, "max-keys": &most} {
		if q.Get(name) != "" {
			var err error
			if *into, err = strconv.Atoi(q.Get(name)); err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
		}
	}
	keys, next := b.page(from, most)
	// What it takes is a server's elsewhere, and should be little here.
	var out bytes.Buffer
	out.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`)
	if next >= 0 {
		fmt.Fprintf(&out, "<IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>", next)
	}
	b.mu.Lock()
	b.asks++
	for _, k := range keys {
		fmt.Fprintf(&out, "<Contents><Key>in/%d</Key><ETag>&quot;e&quot;</ETag><LastModified>", k)
		out.Write(b.made[k].UTC().AppendFormat(out.AvailableBuffer(), "2006-01-02T15:04:05.000Z"))
		out.WriteString("</LastModified><Size>5</Size></Contents>")
	}
	b.mu.Unlock()
	out.WriteString("</ListBucketResult>")
	w.Header().Set("Content-Type", "application/xml")
	_, _ = w.Write(out.Bytes()) // a client that was killed reads no more
}

// s20Call is what the function told of a call, in a queue, before it answered.
type s20Call struct {
	Begin, End float64
	Done       []string
}

// s20Function processes items: two in a hundred fail at random, and those that
// poison names always. What it did it tells by a way that no kill loses.
const s20Function = `
import json, os, random, time
from queues import call
def handler(event, context):
    begin, failed, done = time.time(), [], []
    poison = set(os.environ['POISON'].split(','))
    for item in event['items']:
        if item['id'] in poison or random.random() < 0.02:
            failed.append({'itemIdentifier': item['id']})
        else:
            done.append(item['id'])
    call(Action='SendMessage', QueueUrl='/000000000000/processed', MessageBody=json.dumps({'Begin': begin, 'End': time.time(), 'Done': done}))
    return {'batchItemFailures': failed}
`

// told empties the queue of what the function told.
func (s *server) told() (calls []s20Call) {
	s.t.Helper()
	url := s.endpoint + "/000000000000/processed"
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				out, err := s.queues().ReceiveMessage(s.t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10, VisibilityTimeout: 43200})
				if err != nil {
					s.t.Error(err)
					return
				}
				if len(out.Messages) == 0 {
					return
				}
				for _, m := range out.Messages {
					var c s20Call
					if err := json.Unmarshal([]byte(*m.Body), &c); err != nil {
						s.t.Error(err)
					}
					mu.Lock()
					calls = append(calls, c)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return calls
}

// s20Count is what an account of calls comes to.
type s20Count struct {
	times    map[string]int       // that an item was processed
	ended    map[string]time.Time // when it was first
	again    int                  // processed more than once
	parallel int                  // calls at a time at most
}

func countCalls(calls []s20Call) s20Count {
	c := s20Count{times: map[string]int{}, ended: map[string]time.Time{}}
	type edge struct {
		at float64
		by int
	}
	var edges []edge
	for _, one := range calls {
		edges = append(edges, edge{one.Begin, 1}, edge{one.End, -1})
		for _, id := range one.Done {
			if c.times[id]++; c.times[id] > 1 {
				c.again++
			}
			at := time.UnixMicro(int64(one.End * 1e6))
			if was, ok := c.ended[id]; !ok || at.Before(was) {
				c.ended[id] = at
			}
		}
	}
	sortBy(edges, func(a, b edge) bool { return a.at < b.at || a.at == b.at && a.by < b.by })
	now := 0
	for _, e := range edges {
		now += e.by
		c.parallel = max(c.parallel, now)
	}
	return c
}

// missing are the objects that were never processed.
func (c s20Count) missing(n int, poison map[string]bool) (ids []string) {
	for i := range n {
		if id := "in/" + strconv.Itoa(i); c.times[id] == 0 && !poison[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

func (c s20Count) String() string {
	return fmt.Sprintf("%d items, %d processed again, %d calls at a time", len(c.times), c.again, c.parallel)
}
