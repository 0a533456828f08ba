package backfill

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/hearth-faas/hearth/s3"
)

// bucket is the objects of a bucket whose keys begin with a prefix, by their
// keys. A position is the server's own token and the last key, for when the
// server does not take the token any more.
type bucket struct {
	objects      Objects
	name, prefix string
	since        time.Time // what is older is not told
}

type bucketPosition struct {
	Token string `json:"token"`
	After string `json:"after"`
}

func (b *bucket) Steady() bool { return false }
func (b *bucket) Close() error { return nil }

// Since implements Dated. S3 lists by key, not by time: all pages are read.
func (b *bucket) Since(t time.Time) { b.since = t }

func (b *bucket) Page(ctx context.Context, position string, most int) (items []Item, next string, err error) {
	var at bucketPosition
	if position != "" {
		if err := json.Unmarshal([]byte(position), &at); err != nil {
			return nil, "", err
		}
	}
	found, token, err := b.objects.List(ctx, b.name, b.prefix, at.Token, "", most)
	if errors.Is(err, s3.ErrToken) {
		found, token, err = b.objects.List(ctx, b.name, b.prefix, "", at.After, most)
	}
	if err != nil {
		return nil, "", err
	}
	for _, o := range found {
		if o.Modified.Before(b.since) {
			continue
		}
		value, err := json.Marshal(struct {
			Bucket   string `json:"bucket"`
			Key      string `json:"key"`
			Size     int64  `json:"size"`
			ETag     string `json:"etag"`
			Modified string `json:"modified"`
		}{b.name, o.Key, o.Size, o.ETag, o.Modified.UTC().Format(stamp)})
		if err != nil {
			return nil, "", err
		}
		items = append(items, Item{ID: o.Key, Value: value, Modified: o.Modified})
	}
	if token == "" {
		return items, "", nil
	}
	at.Token = token
	if len(found) > 0 {
		at.After = found[len(found)-1].Key
	}
	p, err := json.Marshal(at)
	return items, string(p), err
}
