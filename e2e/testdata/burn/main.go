// Command burn is a function that uses as much processor time as it is asked
// to, and says which release it is.
package main

import (
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"golang.org/x/sys/unix"
)

type event struct {
	Ms int `json:"ms"`
}

type answer struct {
	Task    string `json:"task"`
	Release string `json:"release"`
	Burned  int64  `json:"burned"` // ns
}

// used is the processor time of this process.
func used() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

func main() {
	lambda.Start(func(e event) (answer, error) {
		began := used()
		for used()-began < time.Duration(e.Ms)*time.Millisecond {
		}
		return answer{os.Getenv("TASK"), os.Getenv("RELEASE"), int64(used() - began)}, nil
	})
}
