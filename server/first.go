package server

import (
	"log/slog"
	"os"
	"runtime"
	"sync"

	"github.com/hearth-faas/hearth/internal/priority"
)

// beyond is how many more threads run Go code than there are processors. While
// all of them compute, as those do that hash and check bodies of megabytes, Go
// looks after what the network has for the others every 10 ms; with some to spare
// the kernel wakes one, and shares the processors among them.
const beyond = 2

var spare = sync.OnceFunc(func() {
	if os.Getenv("GOMAXPROCS") == "" { // else it is somebody's wish
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + beyond)
	}
})

// goFirst lets this process go before what it runs, where it may, and each of its
// requests beside the others.
func goFirst(log *slog.Logger) {
	spare()
	if err := priority.Raise(); err != nil {
		log.Debug("the server has no more weight than its functions where processors are short", "error", err)
	}
}

// contest has this process weigh more than all containers together while several
// accounts want the processors and there is not enough of them, and the code of those
// that use more than their share run on what the others leave: what one has it do
// would keep the others waiting. One account alone gets more done without.
func (s *Server) contest(yes bool) {
	if d, ok := s.driver.(interface{ GoFirst(bool) error }); ok {
		if err := d.GoFirst(yes); err != nil {
			s.log.Warn("the server's weight could not be changed", "first", yes, "error", err)
		}
	}
	s.worker.Contest(yes, s.weight)
}
