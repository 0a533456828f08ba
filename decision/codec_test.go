package decision

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hearth-faas/hearth"
)

var word = rapid.OneOf(rapid.StringN(0, 20, -1), rapid.SampledFrom([]string{"", "f", "000000000000", "a container with this code was idle"}))

var anyDecision = rapid.Custom(func(t *rapid.T) hearth.Decision {
	d := hearth.Decision{
		Seq: rapid.Uint64().Draw(t, "seq"), At: time.Unix(0, rapid.Int64().Draw(t, "at")), Mono: time.Duration(rapid.Int64().Draw(t, "mono")),
		Kind: hearth.DecisionKind(word.Draw(t, "kind")), Account: hearth.Account(word.Draw(t, "account")),
		RequestID: rapid.OneOf(word, rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`),
			rapid.StringMatching(`[0-9A-F-]{36}`)).Draw(t, "id"),
		Function: word.Draw(t, "function"), Version: word.Draw(t, "version"), Generation: rapid.Uint64().Draw(t, "generation"), Chosen: word.Draw(t, "chosen"), Why: word.Draw(t, "why"),
		Instance: word.Draw(t, "instance"), Container: word.Draw(t, "container"), Outcome: word.Draw(t, "outcome"),
		Knew: hearth.Knowledge{Idle: rapid.Int().Draw(t, "idle"), Pool: rapid.IntRange(0, 9).Draw(t, "pool"), FreeMiB: rapid.Int().Draw(t, "free")},
	}
	for i := range d.Spent {
		d.Spent[i] = time.Duration(rapid.Int64().Draw(t, "spent"))
	}
	if rapid.Bool().Draw(t, "another account's code") {
		d.Owner = hearth.Account(rapid.StringN(1, 12, -1).Draw(t, "owner"))
		d.OwnerFunction, d.Terms, d.Withheld = word.Draw(t, "its function"), word.Draw(t, "terms"), word.Draw(t, "withheld")
	}
	if rapid.Bool().Draw(t, "several kinds of capacity") {
		d.Capacity = rapid.SampledFrom([]hearth.CapacityKind{hearth.CapacityFixed, hearth.CapacityVariable, hearth.CapacityDedicated}).Draw(t, "capacity")
		d.Price, d.Cost = rapid.Float64Range(0, 1e9).Draw(t, "price"), rapid.Float64Range(0, 1e9).Draw(t, "cost")
	}
	return d
})

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(anyDecision).Draw(t, "decisions")
		enc, segment := newEncoder(), []byte(header)
		for i := range want {
			segment = enc.append(segment, &want[i])
		}
		dec, err := newDecoder(segment)
		if err != nil {
			t.Fatal(err)
		}
		var d hearth.Decision
		for i := range want {
			if more, err := dec.next(&d); !more || err != nil || d != want[i] {
				t.Fatalf("decision %d: %v, %v\n got %+v\nwant %+v", i, more, err, d, want[i])
			}
		}
		if more, err := dec.next(&d); more || err != nil {
			t.Errorf("after the last: %v, %v", more, err)
		}
	})
}

func TestARecordOfBeforeThereWereGenerationsIsDecoded(t *testing.T) {
	enc := newEncoder()
	enc.append(nil, &hearth.Decision{Seq: 7, Kind: hearth.DecisionPlace, Function: "f"})
	old := enc.body[:len(enc.body)-3] // a generation of 0 is one byte, and so are no node and no fleet
	segment := append([]byte(header), byte(len(old)))
	segment = binary.LittleEndian.AppendUint32(segment, crc32.Checksum(old, castagnoli))
	dec, err := newDecoder(append(segment, old...))
	if err != nil {
		t.Fatal(err)
	}
	var d hearth.Decision
	if more, err := dec.next(&d); !more || err != nil || d.Seq != 7 || d.Function != "f" || d.Generation != 0 {
		t.Errorf("got %+v, %v, %v", d, more, err)
	}
}

func TestSegmentDefinesNoMoreStringsThanItMay(t *testing.T) {
	enc, segment := newEncoder(), []byte(header)
	for i := range 2 * maxStrings {
		segment = enc.append(segment, &hearth.Decision{Seq: uint64(i), Function: strings.Repeat("x", i%100) + string(rune(i)), Container: string(rune(i))})
	}
	if len(enc.known) != maxStrings {
		t.Errorf("%d strings are known", len(enc.known))
	}
	dec, err := newDecoder(segment)
	if err != nil {
		t.Fatal(err)
	}
	var d hearth.Decision
	for i := range 2 * maxStrings {
		if more, err := dec.next(&d); !more || err != nil || d.Seq != uint64(i) || d.Container != string(rune(i)) {
			t.Fatalf("%d: %v %v %+v", i, more, err, d)
		}
	}
}

func TestLongStringsAreCutNotRefused(t *testing.T) {
	enc := newEncoder()
	long := strings.Repeat("long", maxString)
	segment := enc.append([]byte(header), &hearth.Decision{RequestID: long, Function: long, Why: long})
	dec, err := newDecoder(segment)
	if err != nil {
		t.Fatal(err)
	}
	var d hearth.Decision
	if more, err := dec.next(&d); !more || err != nil || d.Why != long[:maxString] || d.RequestID != long[:maxString] {
		t.Errorf("%v %v, why has %d bytes", more, err, len(d.Why))
	}
}

func FuzzDecoder(f *testing.F) {
	enc := newEncoder()
	one := enc.append([]byte(header), &hearth.Decision{Seq: 1, Kind: hearth.DecisionPlace, RequestID: "7f1c9b0e-35a2-4c9b-8a39-6f0e2d1c4b5a", Function: "f"})
	two := enc.append(bytes.Clone(one), &hearth.Decision{Seq: 2, Kind: hearth.DecisionRefuse, RequestID: "x", Function: "f"})
	for _, seed := range [][]byte{nil, []byte(header), one, two, two[:len(two)-3], append(bytes.Clone(one), 0xff, 0xff, 0xff, 0xff, 0x7f)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, segment []byte) {
		dec, err := newDecoder(segment)
		if err != nil {
			return
		}
		var d hearth.Decision
		var all []hearth.Decision
		for {
			more, err := dec.next(&d)
			if err != nil || !more {
				break
			}
			all = append(all, d)
		}
		if len(all) > len(segment)/16 {
			t.Fatalf("%d decisions in %d bytes", len(all), len(segment))
		}
		// What was read can be written and is read again as the same.
		enc, again := newEncoder(), []byte(header)
		for i := range all {
			again = enc.append(again, &all[i])
		}
		dec, err = newDecoder(again)
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			if more, err := dec.next(&d); !more || err != nil || d != all[i] {
				t.Fatalf("decision %d came back as %+v, was %+v: %v", i, d, all[i], err)
			}
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	enc := newEncoder()
	d := hearth.Decision{Seq: 1 << 20, At: time.Now(), Mono: time.Hour, Kind: hearth.DecisionPlace, RequestID: "7f1c9b0e-35a2-4c9b-8a39-6f0e2d1c4b5a",
		Account: "000000000000", Function: "hello", Version: "$LATEST", Chosen: "reuse", Why: "a container with this code was idle", Instance: "i-1", Container: "c-1", Outcome: "ok"}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = enc.append(buf[:0], &d)
	}
	b.SetBytes(int64(len(buf)))
}
