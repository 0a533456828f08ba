package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/server"
)

// moveRecordsCmd moves a data folder's records to a database. It needs no
// server, and there must be none.
func (a *app) moveRecordsCmd() *cobra.Command {
	cfg := server.DefaultConfig()
	cmd := &cobra.Command{
		Use:   "move-records",
		Short: "Move a data folder's records to a PostgreSQL database",
		Long: `Move the records of a data folder, which no server may use meanwhile, to an
empty PostgreSQL database. Every record is copied and compared; only then the
folder belongs to the database. Until then nothing of it is changed, and what
was broken off begins anew with the same command. The folder's own database is
kept beside, under another name.`,
		Example: `  hearth move-records --database postgres://hearth@db.example.com/hearth --database-password /etc/hearth.password
  hearth up --database postgres://hearth@db.example.com/hearth --database-password /etc/hearth.password`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.DataDir = a.dataDir()
			if cfg.Database == "" {
				return usage("where to move the records is not said", "Name the database with --database, or in HEARTH_DATABASE.")
			}
			if err := noPassword(os.Args, cfg.Database); err != nil {
				return err
			}
			if err := cfg.Validate(); err != nil {
				return usage(strings.ReplaceAll(err.Error(), "\n", "; "), "See hearth move-records --help.")
			}
			tell := func(n int) {
				if a.errTTY && !a.json {
					fmt.Fprintf(a.err, "\r\x1b[K%d records copied", n)
				}
			}
			m, err := server.MoveRecords(cmd.Context(), cfg, tell)
			if a.errTTY && !a.json {
				fmt.Fprint(a.err, "\r\x1b[K")
			}
			if err != nil {
				return failed("the records are not moved", err, "")
			}
			if a.json {
				return a.printJSON(m)
			}
			fmt.Fprintf(a.out, "%d records are in %s now, and were compared; what was their file is %s.\n", m.Records, m.Database, m.Kept)
			a.say("Start the server with the same --database from now on.")
			return nil
		},
	}
	databaseFlags(cmd, &cfg)
	return cmd
}
