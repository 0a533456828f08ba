package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/server"
	"github.com/hearth-faas/hearth/store/postgres"
)

// databaseFlags bind the database of a command that works on it while no server
// does.
func databaseFlags(cmd *cobra.Command, cfg *server.Config) {
	f := cmd.Flags()
	f.StringVar(&cfg.Database, "database", cfg.Database, "`URL` of the PostgreSQL, postgres://USER@HOST/NAME")
	f.StringVar(&cfg.DatabasePassword, "database-password", cfg.DatabasePassword, "`file` with its password; it may also be in HEARTH_DATABASE's URL")
	for _, name := range []string{"database", "database-password"} {
		markSetting(f.Lookup(name), upGroups[0])
	}
}

// noPassword refuses a database's password among the arguments, which every
// user of the machine can read.
func noPassword(args []string, database string) error {
	if database == "" || !postgres.HasPassword(database) ||
		!slices.ContainsFunc(args, func(arg string) bool { return strings.HasSuffix(arg, database) }) {
		return nil
	}
	return usage("the database's password is on the command line, where every user of this machine can read it",
		"Put it into a file and name that with --database-password, or put the whole URL into the variable HEARTH_DATABASE or the configuration file.")
}
