package fleet

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func members(n int) (all []*Member) {
	for i := range n {
		m := &Member{info: Info{ID: fmt.Sprintf("n-%d", i), Name: fmt.Sprint(i), MemoryMiB: 1280}}
		m.hash = mix(owner{"", m.info.ID}.hash())
		all = append(all, m)
	}
	return all
}

func TestOnlyWhatAMemberHadMovesWhenItLeaves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := members(rapid.IntRange(2, 20).Draw(t, "members"))
		gone := rapid.IntRange(0, len(all)-1).Draw(t, "gone")
		rest := append(append([]*Member{}, all[:gone]...), all[gone+1:]...)
		for _, key := range rapid.SliceOfN(rapid.Uint64(), 1, 50).Draw(t, "keys") {
			before, after := rank(key, all), rank(key, rest)
			if before[0] != all[gone] && after[0] != before[0] {
				t.Fatalf("key %d moved from %s to %s, and %s had left", key, before[0].Name(), after[0].Name(), all[gone].Name())
			}
			if before[0] == all[gone] && after[0] != before[1] {
				t.Fatalf("key %d moved to %s, and %s was next", key, after[0].Name(), before[1].Name())
			}
		}
	})
}

func TestMembersAreFirstInProportionToTheirMemory(t *testing.T) {
	all := members(4)
	all[0].info.MemoryMiB *= 3
	const keys = 60_000
	first := map[*Member]float64{}
	for k := range keys {
		first[rank(mix(uint64(k)), all)[0]]++
	}
	for i, m := range all {
		want := 1.0 / 6
		if i == 0 {
			want = 0.5
		}
		if got := first[m] / keys; math.Abs(got-want) > 0.01 {
			t.Errorf("member %d is first for %.3f of the keys, want %.3f", i, got, want)
		}
	}
}

func TestNoMemberKeepsMuchMoreThanItsShareWarm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := members(rapid.IntRange(1, 12).Draw(t, "members"))
		total, largest := int64(0), int64(0)
		for i := range rapid.IntRange(1, 300).Draw(t, "functions") {
			mib := int64(rapid.IntRange(128, 1024).Draw(t, "mib"))
			m := settle(rank(mix(uint64(i)), all), mib)
			m.homes.Add(mib)
			total, largest = total+mib, max(largest, mib)
		}
		for _, m := range all {
			if got, most := m.homes.Load(), excess*float64(total)/float64(len(all))+float64(largest); float64(got) > most {
				t.Fatalf("%s has %d MiB of %d in %d members, more than %.0f", m.Name(), got, total, len(all), most)
			}
		}
	})
}
