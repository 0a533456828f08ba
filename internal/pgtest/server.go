package pgtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Options are what Start's server may differ in.
type Options struct {
	// Settings are written to its postgresql.conf: "fsync": "off". Without
	// any it syncs as an ordinary server does.
	Settings map[string]string
	// Folder is where its data is; it must exist, and is given to the user
	// who runs PostgreSQL. "" is one of its own below the machine's folder
	// for temporary files.
	Folder string
}

// Server is a PostgreSQL. Its methods are for one goroutine.
type Server struct {
	// Folder has its socket, its data and its log.
	Folder string

	keeper *exec.Cmd
	orders io.WriteCloser
	done   *bufio.Reader // a line for each order that was carried out
	up     bool
}

// keep is the shell that keeps a server. It carries out the orders that it
// reads, and when there are none any more because whoever gave them has ended,
// it ends PostgreSQL at once and removes the folder. SIGQUIT is what
// PostgreSQL calls an immediate shutdown: a crash, but for the shared memory.
const keep = `
cd "$1" && bin=$2 && own=$3 && pid= && exec 2>>log || exit 1
halt() { [ -z "$pid" ] || { kill -"$1" "$pid"; wait "$pid"; pid=; } >>log; }
while read -r order; do
	case $order in
	init) "$bin/initdb" -D data -U hearth --pwfile=password --auth=scram-sha-256 -E UTF8 --locale=C --no-sync >>log && cat settings >>data/postgresql.conf ;;
	start) "$bin/postgres" -D data -k "$PWD" </dev/null >>log & pid=$! ;;
	stop) halt INT ;;
	crash) halt QUIT ;;
	esac
	echo "$?"
done
halt QUIT
cd / && if [ "$own" = own ]; then rm -rf "$1"; else rm -rf "$1/data" "$1/.s.PGSQL"*; fi
`

// Start starts a server for the test, which ends with it.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Open is Start for what is no test; stop ends the server.
func Open(o Options) (_ *Server, stop func() error, _ error) {
	s, err := start(o)
	if err != nil {
		return nil, nil, err
	}
	return s, s.close, nil
}

func start(o Options) (_ *Server, err error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	who, err := ordinary()
	if err != nil {
		return nil, err
	}
	s := &Server{Folder: o.Folder}
	own := "given"
	if s.Folder == "" {
		own = "own"
		if s.Folder, err = os.MkdirTemp("", "hearth-pg"); err != nil {
			return nil, err
		}
	}
	settings := map[string]string{
		"listen_addresses": "''", "unix_socket_permissions": "0777", "max_connections": "60", "shared_buffers": "16MB",
		"wal_level": "logical", "recovery_init_sync_method": "syncfs", "max_wal_size": "256MB", "log_checkpoints": "off",
	}
	maps.Copy(settings, o.Settings)
	var conf strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&conf, "%s = %s\n", name, settings[name])
	}
	for name, text := range map[string]string{"password": Password + "\n", "settings": conf.String()} {
		if err := os.WriteFile(filepath.Join(s.Folder, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	s.keeper = exec.Command("/bin/sh", "-c", keep, "keep", s.Folder, bin, own)
	s.keeper.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	s.keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // an interrupt of the tests is not for it
	if who != nil {
		s.keeper.SysProcAttr.Credential = who
		if err := os.Chown(s.Folder, int(who.Uid), int(who.Gid)); err != nil {
			return nil, err
		}
	}
	if s.orders, err = s.keeper.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.keeper.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.done = bufio.NewReader(out)
	if err := s.keeper.Start(); err != nil {
		return nil, err
	}
	err = s.order("init")
	if err == nil {
		err = s.Restart()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("PostgreSQL does not start: %w\n%s", err, s.Log()), s.close())
	}
	return s, nil
}

// order has the keeper do something, and waits until it is done.
func (s *Server) order(what string) error {
	if _, err := io.WriteString(s.orders, what+"\n"); err != nil {
		return err
	}
	code, err := s.done.ReadString('\n')
	switch code = strings.TrimSpace(code); {
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case code != "0" && what != "crash":
		return fmt.Errorf("%s ended with status %s", what, code)
	}
	return nil
}

// Restart starts the server again after Stop or Crash, and returns when it
// takes connections.
func (s *Server) Restart() error {
	if err := s.order("start"); err != nil {
		return err
	}
	s.up = true
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		if ctx.Err() != nil || strings.Contains(s.Log(), "FATAL:  could not create lock file") {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Stop shuts the server down in order, ending all connections.
func (s *Server) Stop() error { s.up = false; return s.order("stop") }

// Crash ends the server as a crash would, so that it has to recover from its
// log when it is restarted.
func (s *Server) Crash() error { s.up = false; return s.order("crash") }

func (s *Server) running() bool { return s.up }

// Log is the end of what the server has printed.
func (s *Server) Log() string {
	b, err := os.ReadFile(filepath.Join(s.Folder, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

func (s *Server) close() error {
	s.up = false
	if err := s.orders.Close(); err != nil {
		return err
	}
	return s.keeper.Wait()
}

// programs is the folder of PostgreSQL's programs, which Debian keeps out of
// the PATH.
func programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	newest, version := "", -1.0
	for _, f := range found {
		if v, err := strconv.ParseFloat(strings.Split(f, "/")[4], 64); err == nil && v > version {
			newest, version = f, v
		}
	}
	if newest == "" {
		if newest, err = exec.LookPath("initdb"); err != nil {
			return "", errors.New("PostgreSQL is missing: run .ci/install, or install Debian's package postgresql")
		}
		if newest, err = filepath.EvalSymlinks(newest); err != nil {
			return "", err
		}
	}
	return filepath.Dir(newest), nil
}

// ordinary is the user to run PostgreSQL as, which refuses root; nil is the
// user that the tests run as.
func ordinary() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
