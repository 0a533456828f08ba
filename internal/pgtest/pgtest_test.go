package pgtest

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const holdServer = "HEARTH_TEST_HOLD_POSTGRES"

// TestMain is also the process that TestItEndsWithTheTestBinary kills.
func TestMain(m *testing.M) {
	if os.Getenv(holdServer) == "" {
		os.Exit(m.Run())
	}
	s, err := start(Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.Folder)
	select {}
}

func query(t *testing.T, url, sql string) (string, error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		return "", err
	}
	defer conn.Close(t.Context())
	var answer string
	err = conn.QueryRow(t.Context(), sql).Scan(&answer)
	return answer, err
}

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	var names []string
	for range 2 {
		t.Run("", func(t *testing.T) {
			name, err := query(t, New(t), `SELECT current_database()::text || pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()`)
			if err != nil || !strings.HasSuffix(name, "UTF8") {
				t.Fatal(name, err)
			}
			names = append(names, name)
			// What a test leaves does not keep its database.
			slot, err := query(t, New(t), `SELECT slot_name::text FROM pg_create_logical_replication_slot('left`+fmt.Sprint(len(names))+`', 'pgoutput')`)
			if err != nil {
				t.Fatal(slot, err)
			}
		})
	}
	if names[0] == names[1] {
		t.Errorf("both were %s", names[0])
	}
	left, err := query(t, New(t), `SELECT count(*)::text FROM pg_replication_slots`)
	if left != "0" || err != nil {
		t.Errorf("%s slots are left (%v)", left, err)
	}
}

func TestAServerOfOnesOwnSurvivesACrash(t *testing.T) {
	s := Start(t, Options{})
	url := s.URL("postgres")
	if err := s.exec(`CREATE TABLE kept AS SELECT 'kept' AS word`); err != nil {
		t.Fatal(err)
	}
	for _, end := range []func() error{s.Crash, s.Stop} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if _, err := query(t, url, `SELECT word FROM kept`); err == nil {
			t.Fatal("it still answers")
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		if word, err := query(t, url, `SELECT word FROM kept`); word != "kept" || err != nil {
			t.Errorf("after the restart: %q %v", word, err)
		}
	}
}

func TestItEndsWithTheTestBinary(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdServer+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	folder := strings.TrimSpace(line)
	pid, err2 := os.ReadFile(filepath.Join(folder, "data", "postmaster.pid"))
	if err = errors.Join(err, err2, cmd.Process.Kill()); err != nil {
		t.Fatal(line, err)
	}
	_ = cmd.Wait() // killed
	proc, _, _ := strings.Cut(string(pid), "\n")
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		_, server := os.Stat("/proc/" + proc)
		_, files := os.Stat(folder)
		if os.IsNotExist(server) && os.IsNotExist(files) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %s (%v) and %s (%v) are left", proc, server, folder, files)
		}
	}
}
