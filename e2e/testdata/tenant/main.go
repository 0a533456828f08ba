// Command tenant is a function that leaves its account's secret wherever a
// function can leave something, and says when it began. See tenant.py.
package main

import (
	"context"
	"crypto/rand"
	"net"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"golang.org/x/sys/unix"
)

type event struct {
	Nonce   string `json:"nonce"`
	SleepMs int    `json:"sleepMs"`
}

type answer struct {
	Nonce   string `json:"nonce"`
	Secret  string `json:"secret"`
	Process string `json:"process"`
	N       int    `json:"n"`
	Born    int64  `json:"born"`
	At      int64  `json:"at"`
}

// now is the machine's monotonic clock.
func now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

var (
	born    = now()
	secret  = os.Getenv("SECRET")
	process = rand.Text()
	n       int
	kept    any
)

func leaveTraces() error {
	for _, dir := range []string{"/tmp", "/dev/shm"} {
		if err := os.WriteFile(dir+"/"+secret+"-go", []byte(secret), 0o666); err != nil {
			return err
		}
	}
	l, err := net.Listen("unix", "@"+secret+"-go")
	if err != nil {
		return err
	}
	kept = []any{l, strings.Repeat(secret+" ", 1000)}
	return nil
}

func main() {
	lambda.Start(func(_ context.Context, e event) (answer, error) {
		at := now()
		n++
		if n == 1 {
			if err := leaveTraces(); err != nil {
				return answer{}, err
			}
		}
		time.Sleep(time.Duration(e.SleepMs) * time.Millisecond)
		return answer{e.Nonce, secret, process, n, born, at}, nil
	})
}
