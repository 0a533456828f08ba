// Command bench measures Hearth against the floor of the same run, on the
// same machine, and prints the ratios that SPEC.md promises. Floor and Hearth
// take turns, so that what else the machine does hits both.
//
//	make bench
//	go run ./bench -only warm
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one promise and what came of it.
type row struct {
	Name   string  `json:"name"`
	Floor  string  `json:"floor"`  // median, p99
	Hearth string  `json:"hearth"` // median, p99
	Value  float64 `json:"value"`  // the ratio, or the number itself
	Unit   string  `json:"unit"`   // "×", "MiB", …
	Aim    float64 `json:"aim"`
	AtMost bool    `json:"atMost"` // Value must be at most Aim, otherwise at least
}

func (r row) met() bool {
	if r.AtMost {
		return r.Value <= r.Aim
	}
	return r.Value >= r.Aim
}

func main() {
	if len(os.Args) > 1 && (os.Args[1] == floorEcho || os.Args[1] == floorProxy) {
		fail(runFloor(os.Args[1], strings.Join(os.Args[2:], "")))
	}
	only := flag.String("only", "", "measure only rows whose name contains `TEXT`")
	rounds := flag.Int("rounds", 10, "`number` of turns between floor and Hearth")
	asJSON := flag.Bool("json", false, "print JSON")
	binary := flag.String("hearth", "bin/hearth", "the program to measure")
	flag.Parse()

	b, err := newBench(*binary, *rounds)
	if err != nil {
		fail(err)
	}
	defer b.close()
	var rows []row
	for _, m := range []struct {
		name string
		run  func(*bench) ([]row, error)
	}{
		{"idle server", idle},
		{"warm invoke", warm},
		{"warm throughput", throughput},
		{"cold go", coldGo},
		{"cold node", coldNode},
		{"cold python", coldPython},
		{"sixteen at once", sixteen},
		{"pooled slot", slot},
		{"async events", asyncEvents},
		{"functions registered", registered},
		{"queue events", queueEvents},
		{"sources", sources},
	} {
		if !strings.Contains(m.name, *only) {
			continue
		}
		began := time.Now()
		r, err := m.run(b)
		if err != nil {
			b.close()
			fail(fmt.Errorf("%s: %w\n%s", m.name, err, b.serverLog()))
		}
		rows = append(rows, r...)
		fmt.Fprintf(os.Stderr, "%s: %v\n", m.name, time.Since(began).Round(time.Millisecond))
	}
	if *asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(rows); err != nil {
			fail(err)
		}
		return
	}
	print(rows)
}

func print(rows []row) {
	fmt.Printf("%s, %d cores, %s\n", runtime.GOARCH, runtime.NumCPU(), time.Now().UTC().Format(time.RFC3339))
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "promise\tfloor p50 / p99\tHearth p50 / p99\tvalue\taim\t")
	for _, r := range rows {
		sign, verdict := "≥", "met"
		if r.AtMost {
			sign = "≤"
		}
		if !r.met() {
			verdict = "MISSED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f %s\t%s %.2f %s\t%s\n", r.Name, r.Floor, r.Hearth, r.Value, r.Unit, sign, r.Aim, r.Unit, verdict)
	}
	w.Flush()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}
