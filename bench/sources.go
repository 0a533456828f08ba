package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"strconv"
	"strings"
)

// sourcePackages have a benchmark each: of a source of events that is read through
// the framework, for a function that does nothing, in turns with a bare consumer by
// the source's own client. Each starts the real broker for that.
var sourcePackages = []string{
	"event/redis", "event/nats", "event/rabbitmq", "event/kafka", "event/mqtt", "event/postgres", "event/poll/objects", "event/poll/folder",
}

// sourceMessages are how many messages are read at once.
const sourceMessages = 3000

// sources: messages a second of each source, and how long after the beginning of
// its publishing a single message comes to a warm function, both against the bare
// consumer.
func sources(*bench) (rows []row, err error) {
	for _, pkg := range sourcePackages {
		cmd := exec.Command("go", "test", "-run", "^$", "-bench", ".", "-benchtime", fmt.Sprintf("%dx", sourceMessages), "./"+pkg)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", pkg, err, out)
		}
		m, err := metrics(out)
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", pkg, err, out)
		}
		name := path.Base(pkg) + " source: "
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
