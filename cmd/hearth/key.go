package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/audit"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/store"
)

// masterKeyFlag is the flag of all commands that need the master key.
func masterKeyFlag(cmd *cobra.Command, into *string, group string) {
	f := cmd.PersistentFlags()
	f.StringVar(into, "master-key-file", *into, "`file` of the key that seals secrets (default: systemd's credential "+identity.CredentialName+", or "+identity.MasterKeyFile+" in the data folder)")
	markSetting(f.Lookup("master-key-file"), group)
}

// masterKey is the master key's file, for whoever is told file.
func (a *app) masterKey(file string) string {
	return identity.MasterKeyPlace(a.dataDir(), file, a.getenv)
}

func (a *app) keyCmd() *cobra.Command {
	file := ""
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Where the master key is, which seals all secrets at rest; and how to replace it",
		Long: `Tell where the master key is. It seals the data keys, of which there is one more
after each rotation, and those seal everything else: environments, access keys,
event sources' secrets. Outside the data folder it keeps a copy of that folder
from being of use to anybody.

  hearth key
  hearth key rotate                          another key, in the same file
  hearth key rotate --to /etc/hearth/master.key   and in another file from now on`,
		Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			d, err := identity.OpenDataKeys(a.dataDir(), a.masterKey(file))
			if err != nil {
				return failed("can't read the keys of "+a.dataDir(), err, "")
			}
			return a.printMaster(d.Info())
		},
	}
	masterKeyFlag(cmd, &file, "")
	to := ""
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Replace the master key, and seal what comes with a new data key",
		Long: `Replace the master key by a new one, and have a new data key seal what comes
from now on. What older data keys have sealed goes on to open. The old master
key opens nothing any more, and is removed, unless it is in a file of yours.
Temporary credentials (sessions) end, and are to be asked for anew; access keys
go on. The server must not be running. Whenever this is interrupted, a server
can be started, and this can be done again.

With --to the new key goes into that file, which --master-key-file names to the
server then. If there is a key in it already, that one becomes the new one.`,
		Args: exactly(0),
		RunE: func(*cobra.Command, []string) error { return a.rotateKey(a.masterKey(file), to) },
	}
	rotate.Flags().StringVar(&to, "to", "", "`file` that the new key is put into, or found in")
	cmd.AddCommand(rotate)
	return cmd
}

func (a *app) rotateKey(from, to string) (err error) {
	dir := a.dataDir()
	if !fileExists(filepath.Join(dir, identity.CredentialsFile)) {
		return refused("no server has started in "+dir+" yet", "Start one there, hearth up, or name another folder with --data.")
	}
	folder, err := store.OpenFolder(dir)
	if inUse, ok := errors.AsType[*store.InUseError](err); ok {
		return refused(fmt.Sprintf("a server (process %d) runs on %s", inUse.PID, dir), "Stop it first; it is started with the new key then.")
	}
	if err != nil {
		return failed("can't rotate the key of "+dir, err, "")
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	if to == "" {
		to = from
	}
	if to, err = filepath.Abs(to); err != nil {
		return err
	}
	info, err := identity.Rotate(folder.Path, from, to, time.Now(), slog.Default())
	if err != nil {
		return failed("can't rotate the key of "+dir, err, "Nothing that was sealed is lost; do it again.")
	}
	if err := a.auditRotation(folder.Path, to); err != nil {
		return failed("the key was rotated, but that is not in the audit log", err, "")
	}
	if err := a.printMaster(info); err != nil {
		return err
	}
	switch {
	case from != to && fileExists(from):
		a.say("The old key is still in %s. Remove it; it opens backups of before, and nothing else.\nStart the server with: hearth up --master-key-file %s", from, to)
	case from != to && !info.Inside:
		a.say("Start the server with: hearth up --master-key-file %s", to)
	}
	return nil
}

// auditRotation records who rotated the key, as the system knows it.
func (a *app) auditRotation(dir, masterKey string) error {
	d, err := identity.OpenDataKeys(dir, masterKey)
	if err != nil {
		return err
	}
	key, err := d.Sealing()
	if err != nil {
		return err
	}
	root, err := identity.ReadRoot(dir)
	if err != nil {
		return err
	}
	log, err := audit.Open(audit.Config{Dir: filepath.Join(dir, "audit"), Clock: clock.System(), Key: key, Log: slog.Default()})
	if err != nil {
		return err
	}
	who := fmt.Sprint("uid ", os.Getuid())
	if u, err := user.Current(); err == nil {
		who = u.Username + " (" + who + ")"
	}
	p, err := log.Admit()
	if err == nil {
		err = p.Record(&audit.Event{
			Time: time.Now(), Account: root.Account, Principal: who, Service: control.SigningService, Action: "hearth:RotateKey", Resource: d.Info().ID, UserAgent: "hearth " + ownVersion(),
		})
	}
	return errors.Join(err, log.Close())
}

func (a *app) printMaster(i identity.MasterInfo) error {
	if a.json {
		return a.printJSON(i)
	}
	where := "outside the data folder"
	if i.Inside {
		where = "in the data folder: a copy of that has it too"
	}
	fmt.Fprintf(a.out, "master key %s in %s, %s\n", i.ID, i.File, where)
	for _, g := range i.DataKeys {
		made, seals := "with the data folder", "opens what it has sealed"
		if !g.Created.IsZero() {
			made = g.Created.Format(time.DateOnly)
		}
		if g.Current {
			seals = "seals what comes"
		}
		fmt.Fprintf(a.out, "data key %d, made %s, %s\n", g.Generation, made, seals)
	}
	return nil
}

func fileExists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
