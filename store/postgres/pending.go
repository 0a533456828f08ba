package postgres

import (
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/hearth-faas/hearth/store"
)

// pending is what a transaction has written and not sent yet.
type pending struct {
	writes map[string]map[string][]byte // by bucket and key; nil is a deletion
	count  int
	bytes  int
}

// put notes a write; a nil value is a deletion.
func (p *pending) put(bucket, key string, value []byte) {
	if p.writes == nil {
		p.writes = map[string]map[string][]byte{}
	}
	keys := p.writes[bucket]
	if keys == nil {
		keys = map[string][]byte{}
		p.writes[bucket] = keys
	}
	old, there := keys[key]
	if !there {
		p.count++
		p.bytes += len(bucket) + len(key)
	}
	p.bytes += len(value) - len(old)
	keys[key] = value
}

// get returns what was written, if anything was.
func (p *pending) get(bucket, key string) (value []byte, there bool) {
	value, there = p.writes[bucket][key]
	return value, there
}

// take adds all of from, which came later.
func (p *pending) take(from *pending) {
	for bucket, keys := range from.writes {
		for key, value := range keys {
			p.put(bucket, key, value)
		}
	}
}

// merge replaces in page, which is sorted and of the keys of bucket with prefix
// that are greater than after and, unless last is "", no greater than last,
// what was written.
func (p *pending) merge(page []store.Record, bucket, prefix, after, last string) []store.Record {
	var written []string
	for key := range p.writes[bucket] {
		if strings.HasPrefix(key, prefix) && key > after && (last == "" || key <= last) {
			written = append(written, key)
		}
	}
	if len(written) == 0 {
		return page
	}
	slices.Sort(written)
	merged := make([]store.Record, 0, len(page)+len(written))
	for _, key := range written {
		for len(page) > 0 && page[0].Key < key {
			merged, page = append(merged, page[0]), page[1:]
		}
		if len(page) > 0 && page[0].Key == key {
			page = page[1:]
		}
		if value := p.writes[bucket][key]; value != nil {
			merged = append(merged, store.Record{Key: key, Value: slices.Clone(value)})
		}
	}
	return append(merged, page...)
}

const (
	putSQL = `INSERT INTO hearth_records (bucket, key, value) SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])
		ON CONFLICT (bucket, key) DO UPDATE SET value = excluded.value`
	deleteSQL = `DELETE FROM hearth_records r USING unnest($1::text[], $2::text[]) AS gone (bucket, key) WHERE r.bucket = gone.bucket AND r.key = gone.key`
)

// queue adds the statements that make the writes, in the order of keys.
func (p *pending) queue(b *pgx.Batch) {
	var puts, deletes struct {
		buckets, keys []string
		values        [][]byte
	}
	for _, bucket := range slices.Sorted(maps.Keys(p.writes)) {
		keys := p.writes[bucket]
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			to := &puts
			if keys[key] == nil {
				to = &deletes
			}
			to.buckets, to.keys, to.values = append(to.buckets, bucket), append(to.keys, key), append(to.values, keys[key])
		}
	}
	if len(puts.keys) > 0 {
		b.Queue(putSQL, puts.buckets, puts.keys, puts.values)
	}
	if len(deletes.keys) > 0 {
		b.Queue(deleteSQL, deletes.buckets, deletes.keys)
	}
}
