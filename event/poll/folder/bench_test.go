package folder_test

import (
	"encoding/binary"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
	"github.com/hearth-faas/hearth/event/poll/folder"
	"github.com/hearth-faas/hearth/event/sourcetest"
)

// BenchmarkFolder is against a reader of the kernel's notifications that reads
// each file, as its content is in the event; the files are written meanwhile.
func BenchmarkFolder(b *testing.B) {
	watches := map[string]int{} // by a mapping's ID
	sourcetest.Bench(b, sourcetest.Measured{
		Live:   true,
		Opener: folder.Opener(openStore(b), clock.System(), "/private"),
		New: func() (*event.Mapping, poll.Place) {
			dir := b.TempDir()
			watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
			if err == nil {
				_, err = unix.InotifyAddWatch(watch, dir, unix.IN_CLOSE_WRITE)
			}
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { unix.Close(watch) })
			watches[dir] = watch
			return &event.Mapping{ID: dir, Function: "f", Scheme: "file", Source: event.SourceARN("us-east-1", "000000000000", "in"), Region: "us-east-1",
				Settings: event.Settings{WindowSeconds: new(0)}}, poll.Place{URL: &url.URL{Scheme: "file", Path: dir, RawQuery: "content=true"}}
		},
		Publish: func(m *event.Mapping, n int) error {
			for i := range n {
				if err := os.WriteFile(filepath.Join(m.ID, fmt.Sprint(i)), sourcetest.BenchBody(i), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Bare: func(m *event.Mapping, n int, heard func()) error {
			buf := make([]byte, 64<<10)
			for n > 0 {
				got, err := unix.Read(watches[m.ID], buf)
				if err != nil {
					return err
				}
				for at := 0; at < got; n-- {
					end := at + unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[at+12:]))
					name := strings.TrimRight(string(buf[at+unix.SizeofInotifyEvent:end]), "\x00")
					if _, err := os.ReadFile(filepath.Join(m.ID, name)); err != nil {
						return err
					}
					heard()
					at = end
				}
			}
			return nil
		},
	})
}
