package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestDemoShowsEveryExampleAndEndsClean(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("only root can run it as somebody else, too")
	}
	for name, uid := range map[string]int{"as root": 0, "as an ordinary user": 1500} {
		t.Run(name, func(t *testing.T) {
			home, err := os.MkdirTemp(scratch, "demo-")
			if err != nil {
				t.Fatal(err)
			}
			temp, examples := filepath.Join(home, "tmp"), filepath.Join(home, "examples")
			if err := errors.Join(os.Mkdir(temp, 0o700), os.CopyFS(examples, os.DirFS("../examples")),
				os.Chmod(filepath.Join(examples, "bootstrap", "bootstrap"), 0o755), chownAll(home, uid)); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(hearthBinary, "demo", "--json", "--examples", examples)
			cmd.Dir = home
			cmd.Env = cleanEnv("TMPDIR=" + temp)
			want := []string{"hello-bootstrap", "hello-go", "hello-node", "hello-python"}
			if uid != 0 { // who has neither Go's cache nor root's interpreters
				cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + home, "TMPDIR=" + temp}
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
				want = slices.Delete(want, 1, 2)
			}
			out, err := output(cmd)
			if err != nil {
				t.Fatal(err)
			}
			var shown struct {
				Functions []struct {
					Function, ColdPath, WarmPath string
					ColdMillis, WarmMillis       float64
					Invocations                  int
				}
				Together map[string]int
				Left     []string
				Missing  map[string]string
			}
			if err := json.Unmarshal([]byte(out), &shown); err != nil {
				t.Fatalf("%v in %s", err, out)
			}
			var names []string
			for _, f := range shown.Functions {
				names = append(names, f.Function)
				if f.WarmPath != "reuse" || f.ColdPath == "reuse" || f.Invocations < 2 || f.ColdMillis <= 0 {
					t.Errorf("%+v", f)
				}
				t.Logf("%s: cold %.1f ms (%s), warm %.2f ms", f.Function, f.ColdMillis, f.ColdPath, f.WarmMillis)
			}
			slices.Sort(names)
			if !slices.Equal(names, want) || len(shown.Together) == 0 {
				t.Errorf("it showed %q, not %q; missing: %v; together: %v", names, want, shown.Missing, shown.Together)
			}
			if len(shown.Left) > 0 {
				t.Errorf("it says that it left %q", shown.Left)
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("in its folder for temporary files there are %v, %v", left, err)
			}
			if uid != 0 {
				await(t, 10*time.Second, "the user's processes to end", func() bool { return len(processesOfUser(t, uid)) == 0 })
			}
		})
	}
}

func chownAll(dir string, uid int) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, uid, uid)
	})
}

// processesOfUser finds the processes whose real user id is uid.
func processesOfUser(t testing.TB, uid int) (found []string) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		f, err := os.Open(dir + "/status")
		if err != nil {
			continue // it has ended
		}
		text, err := io.ReadAll(f)
		f.Close()
		if err == nil && strings.Contains(string(text), fmt.Sprintf("\nUid:\t%d\t", uid)) {
			found = append(found, filepath.Base(dir))
		}
	}
	return found
}
