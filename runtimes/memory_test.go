package runtimes

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// privateKiB is what a process costs by itself: memory that it shares with
// nobody.
func privateKiB(t testing.TB, pid int) (private, rss int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		n, err := strconv.Atoi(fields[1])
		if err != nil {
			continue
		}
		switch fields[0] {
		case "Private_Dirty:", "Private_Clean:":
			private += n
		case "Rss:":
			rss += n
		}
	}
	return private, rss
}

func TestBootedProcessesAreSmall(t *testing.T) {
	for language, limit := range map[Language]int{Node: 40 << 10, Python: 8 << 10} {
		for _, c := range choices(t, language) {
			// The second shares what the first has loaded.
			boot(t, c, trivial(c))
			ch := boot(t, c, trivial(c))
			private, rss := privateKiB(t, ch.cmd.Process.Pid)
			t.Logf("%s: %d KiB of its own, %d KiB in all", c.Boot(), private, rss)
			if private > limit {
				t.Errorf("a booted %s has %d KiB of its own, more than %d", c.Boot(), private, limit)
			}
		}
	}
}

// A function that makes much garbage and keeps little stays within the
// smallest memory. Its pages that are the program's own file are not counted:
// they can be let go.
func TestGarbageFitsIntoTheSmallestMemory(t *testing.T) {
	for _, c := range choices(t, Node) {
		for _, unbooted := range []bool{false, true} {
			g := js(`exports.handler = async () => {
  let most = 0
  for (let r = 0; r < 40; r++) {
    const a = []
    for (let i = 0; i < 20000; i++) a.push({ i, s: 'x' + i, t: [i, i + 1] })
    JSON.parse(JSON.stringify(a))
    const status = require('fs').readFileSync('/proc/self/status', 'latin1')
    most = Math.max(most, Number(/RssAnon:\s+(\d+)/.exec(status)[1]))
  }
  return most
}`)
			g.unbooted = unbooted
			ch := start(t, c, g)
			a := ch.invoke(`{}`)
			most, err := strconv.Atoi(a.String())
			if err != nil {
				t.Fatalf("%s\n%s", a, ch.output.String())
			}
			t.Logf("%s, unbooted %v: %d MiB", c.Boot(), unbooted, most>>10)
			if most > 64<<10 {
				t.Errorf("%s, unbooted %v: %d MiB of 128", c.Boot(), unbooted, most>>10)
			}
		}
	}
}
