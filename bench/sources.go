package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"time"
)

// measuredSources are packages with a benchmark each: of a source of events that is
// read through the framework, for a function that does nothing, in turns with a
// bare consumer by the source's own client. Each starts the real broker for that.
// messages are how many are read at once.
var measuredSources = []struct {
	pkg      string
	messages int
}{
	{"event/redis", 3000}, {"event/nats", 3000}, {"event/rabbitmq", 3000}, {"event/kafka", 3000}, {"event/mqtt", 3000}, {"event/postgres", 3000},
	{"event/poll/objects", 300}, {"event/poll/folder", 3000}, {"event/poll/queue", 3000},
}

// sources: messages a second of each source, and how long after the beginning of
// its publishing a single message comes to a warm function, both against the bare
// consumer.
func sources(*bench) (rows []row, err error) {
	for _, s := range measuredSources {
		began := time.Now()
		cmd := exec.Command("go", "test", "-run", "^$", "-bench", ".", "-benchtime", fmt.Sprintf("%dx", s.messages), "./"+s.pkg)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", s.pkg, err, out)
		}
		m, err := metrics(out)
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", s.pkg, err, out)
		}
		fmt.Fprintf(os.Stderr, "%s: %v\n", s.pkg, time.Since(began).Round(time.Millisecond))
		name := path.Base(s.pkg) + " source: "
		rows = append(rows, row{
			Name: name + "messages a second", Floor: fmt.Sprintf("%.0f/s", m["bare/s"]), Hearth: fmt.Sprintf("%.0f/s", m["events/s"]),
			Value: m["of-bare"], Unit: "×", Aim: 0.25,
		}, row{
			Name: name + "publishing to start, p99", Floor: fmt.Sprintf("%.2f / %.2f ms", m["bare-p50-ms"], m["bare-p99-ms"]),
			Hearth: fmt.Sprintf("%.2f / %.2f ms", m["start-p50-ms"], m["start-p99-ms"]), Value: m["start-p99-ms"], Unit: "ms", Aim: 100, AtMost: true,
		})
	}
	return rows, nil
}

// metrics reads what a Go benchmark reports, by unit.
func metrics(out []byte) (map[string]float64, error) {
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "Benchmark") {
			continue
		}
		m := map[string]float64{}
		fields := strings.Fields(lines.Text())
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, err
			}
			m[fields[i+1]] = value
		}
		return m, nil
	}
	return nil, errors.New("there is no benchmark")
}
