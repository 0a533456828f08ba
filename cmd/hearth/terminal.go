package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
)

func isTerminal(f *os.File) bool { return isatty.IsTerminal(f.Fd()) }

// colorful tells whether colours may be written to a stream: to a terminal,
// unless NO_COLOR (no-color.org) or a dumb terminal says otherwise.
func (a *app) colorful(tty bool) bool {
	return tty && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
}

func (a *app) paint(tty bool, code, s string) string {
	if !a.colorful(tty) || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// red is for standard error, the others for standard output.
func (a *app) red(s string) string   { return a.paint(a.errTTY, "31", s) }
func (a *app) green(s string) string { return a.paint(a.outTTY, "32", s) }
func (a *app) amber(s string) string { return a.paint(a.outTTY, "33", s) }
func (a *app) bold(s string) string  { return a.paint(a.outTTY, "1", s) }
func (a *app) faint(s string) string { return a.paint(a.outTTY, "2", s) }

// progress shows a person what is being waited for, once it has taken a
// moment, until the returned function is called. It shows nothing where no
// person looks.
func (a *app) progress(what string) (done func()) {
	if !a.errTTY || a.json {
		return func() {}
	}
	stop, gone := make(chan struct{}), make(chan struct{})
	began := time.Now()
	go func() {
		defer close(gone)
		tick := time.NewTicker(120 * time.Millisecond)
		defer tick.Stop()
		shown := false
		for i := 0; ; i++ {
			select {
			case <-stop:
				if shown {
					fmt.Fprint(a.err, "\r\x1b[K")
				}
				return
			case now := <-tick.C:
				if d := now.Sub(began); d > 400*time.Millisecond {
					shown = true
					fmt.Fprintf(a.err, "\r\x1b[K%c %s  %.1f s", []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")[i%10], what, d.Seconds())
				}
			}
		}
	}()
	return sync.OnceFunc(func() { close(stop); <-gone })
}

// table prints rows under a header, columns aligned. Cells may be painted.
type table struct {
	header []string
	rows   [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(w io.Writer, a *app) {
	width := make([]int, len(t.header))
	for _, row := range append([][]string{t.header}, t.rows...) {
		for i, cell := range row {
			width[i] = max(width[i], shownWidth(cell))
		}
	}
	line := func(row []string, paint func(string) string) {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(paint(cell))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-shownWidth(cell)+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	line(t.header, a.faint)
	for _, row := range t.rows {
		line(row, func(s string) string { return s })
	}
}

// shownWidth is how many columns s takes, without escape sequences.
func shownWidth(s string) int {
	n := utf8.RuneCountInString(s)
	for rest := s; ; {
		i := strings.Index(rest, "\x1b[")
		if i < 0 {
			return n
		}
		end := strings.IndexByte(rest[i:], 'm')
		if end < 0 {
			return n
		}
		n -= end + 1
		rest = rest[i+end+1:]
	}
}

// ms prints a duration as milliseconds with three significant digits.
func ms(d time.Duration) string {
	f := float64(d) / float64(time.Millisecond)
	switch {
	case f >= 100:
		return fmt.Sprintf("%.0f ms", f)
	case f >= 10:
		return fmt.Sprintf("%.1f ms", f)
	default:
		return fmt.Sprintf("%.2f ms", f)
	}
}

// size prints a number of bytes for a person.
func size(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%d B", n)
	}
}

// ago prints how long something has lasted, in its largest unit.
func ago(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
