package main

import (
	"slices"
	"strings"

	"github.com/hearth-faas/hearth/store/postgres"
)

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
