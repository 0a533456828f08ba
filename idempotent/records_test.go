package idempotent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

func TestRecordsAreBoundedInNumberAndSizeAndAddUp(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const maxMemory, maxDisk, most = 20_000, 100_000, 7
		r := newRecords(maxMemory, maxDisk)
		now := time.Unix(0, 0)
		for range rapid.IntRange(1, 200).Draw(rt, "steps") {
			var rec record
			binary.BigEndian.PutUint64(rec.key[:], rapid.Uint64Range(0, 40).Draw(rt, "key"))
			rec.line[0], rec.function, rec.account = rec.key[7]%8, fmt.Sprint("f", rec.key[7]%5), "a"
			rec.at = now
			switch rapid.IntRange(0, 3).Draw(rt, "what") {
			case 0:
				r.get(rec.key, 0, now)
			case 1:
				if rapid.IntRange(0, 9).Draw(rt, "rarely") == 0 {
					r.forget(owner{"a", rec.function})
				}
			default:
				rec.size = int64(rapid.IntRange(0, 60_000).Draw(rt, "size"))
				if rec.size > inline {
					rec.blob = fmt.Sprint("blob", rec.size%3)
					rec.size = 20_000 + rec.size%3 // one size for one blob
				} else {
					rec.result.Payload = make([]byte, rec.size)
				}
				r.put(&rec, most)
			}
			var memory, disk int64
			blobs, owners := map[string]int{}, map[owner]int{}
			for e := r.all.Front(); e != nil; e = e.Next() {
				rec := e.Value.(*entry)
				memory += rec.memory()
				if rec.blob != "" {
					if blobs[rec.blob]++; blobs[rec.blob] == 1 {
						disk += rec.size
					}
				}
				owners[owner{rec.account, rec.function}]++
				if r.of[rec.key] != rec {
					rt.Fatal("a record is not under its key")
				}
			}
			if memory != r.memory || disk != r.disk || memory > maxMemory || disk > maxDisk || r.all.Len() != len(r.of) {
				rt.Fatalf("memory %d of %d, disk %d of %d, %d of %d records", memory, r.memory, disk, r.disk, r.all.Len(), len(r.of))
			}
			for o, n := range owners {
				if n > most || r.owners[o].Len() != n {
					rt.Fatalf("%v has %d records, counted %d", o, n, r.owners[o].Len())
				}
			}
			dropped, released := r.takeDropped()
			for _, b := range released {
				if blobs[b] > 0 {
					rt.Fatalf("%s is released, and in use", b)
				}
			}
			_ = dropped
		}
	})
}

// A record whose blob is gone or damaged is none.
func TestADamagedResultIsDropped(t *testing.T) {
	h := newTestShelf(t)
	rec := &record{account: "111111111111", function: "f", result: hearth.Result{Payload: []byte(strings.Repeat("x", 10_000))}}
	if err := h.put(t.Context(), rec, 10); err != nil {
		t.Fatal(err)
	}
	if rec.blob == "" || rec.result.Payload != nil {
		t.Fatal("a large payload is not in a blob")
	}
	if r, err := h.result(t.Context(), rec); err != nil || len(r.Payload) != 10_000 {
		t.Fatal(err)
	}
	if err := h.blobs.Delete(t.Context(), rec.blob); err != nil {
		t.Fatal(err)
	}
	if _, err := h.result(t.Context(), rec); err == nil {
		t.Error("a payload that is gone is given")
	}
	if found, _ := h.get(rec.line, rec.key, 0, time.Now()); found != nil {
		t.Error("its record is still there")
	}
}

func TestADamagedRecordIsNoneAndABlobWithoutARecordGoes(t *testing.T) {
	for _, damaged := range []string{`{`, `{}`, `{"line":"AAAA"}`, `{"line":"` + strings.Repeat("A", 43) + `=","size":5}`} {
		if rec, err := decodeRecord("111111111111/f/"+strings.Repeat("00", 32), []byte(damaged)); err == nil {
			t.Errorf("%s is %+v", damaged, rec)
		}
	}
	h := newTestShelf(t)
	rec := &record{account: "111111111111", function: "f", result: hearth.Result{Payload: []byte(strings.Repeat("x", 10_000))}}
	if err := h.put(t.Context(), rec, 10); err != nil {
		t.Fatal(err)
	}
	// Another process, which never heard of the record's being written.
	if _, err := h.forgetOnDisk(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := &shelf{store: h.store, blobs: h.blobs, log: h.log, mem: newRecords(1<<20, 1<<20), pending: map[string][]byte{}}
	if err := again.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.blobs.Stat(t.Context(), rec.blob); !errors.Is(err, store.ErrNoBlob) || len(again.mem.of) != 0 {
		t.Errorf("%d records, and of the blob: %v", len(again.mem.of), err)
	}
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"", "a${$.b}c", "${env.A}${secret.B}", "$${x}", "${$['a'][0].b}", "${", "${$[-1]}"} {
		f.Add(s, `{"b":"x","a":[{"b":1}]}`)
	}
	f.Fuzz(func(t *testing.T, s, event string) {
		tmpl, err := parseTemplate(s)
		if err != nil {
			return
		}
		text, shown, err := tmpl.expand(&scope{event: []byte(event), env: map[string]string{"A": "hidden"}, secrets: map[string]string{"B": "hidden"}}, nil)
		if err != nil {
			return
		}
		if len(text) > maxText || strings.Contains(shown, "hidden") && !strings.Contains(s+event, "hidden") && !strings.Contains(event, `\u`) {
			t.Errorf("%q is filled in as %q, shown as %q", s, text, shown)
		}
	})
}
