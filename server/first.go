package server

import (
	"log/slog"

	"github.com/hearth-faas/hearth/internal/priority"
)

// goFirst lets this process go before what it runs, where it may.
func goFirst(log *slog.Logger) {
	if err := priority.Raise(); err != nil {
		log.Debug("the server has no more weight than its functions where processors are short", "error", err)
	}
}
