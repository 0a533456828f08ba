package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/audit"
	"github.com/hearth-faas/hearth/clock"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/server"
	"github.com/hearth-faas/hearth/store"
	"github.com/hearth-faas/hearth/store/postgres"
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
	status := func(cmd *cobra.Command, _ []string) error { return a.keyStatus(cmd, a.masterKey(file)) }
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Where the master key is, which seals all secrets at rest; and how to replace it",
		Long: `Tell where the master key is. It seals the data keys, of which there is one more
after each rotation, and those seal everything else: environments, access keys,
event sources' secrets. Outside the data folder it keeps a copy of that folder
from being of use to anybody.

  hearth key                                 where it is, and what the data keys seal
  hearth key rotate                          another key, in the same file
  hearth key rotate --to /etc/hearth/master.key   and in another file from now on`,
		Args: exactly(0),
		RunE: status,
	}
	masterKeyFlag(cmd, &file, "")
	r := rotation{cfg: server.DefaultConfig()}
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Replace the master key, and have a new data key seal everything",
		Long: `Replace the master key by a new one, and have a new data key seal what comes
from now on. What older data keys have sealed is sealed anew by a server in the
background; then the older keys are removed (hearth key status tells how far that
is). The old master key opens nothing any more, and is removed, unless it is in a
file of yours.

A server that runs on the data folder does it while it goes on serving. Temporary
credentials that it made before, those of functions among them, hold for 20
minutes more, and functions' containers are replaced in that time; who has the old
key could make such credentials as long. With --end-sessions they end at once, and
what functions call here may fail until their containers are replaced. Access keys
go on. If no server runs, the keys are replaced in the folder, and sessions end;
of a folder whose records are in a database that is named as for hearth up, and
must be in no server's use, on no machine.

Whenever this is interrupted, a server can be started, and this can be done again.

With --to the new key goes into that file, which --master-key-file names to the
server from its next start on. If there is a key in it already, that one becomes
the new one.`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.rotateKey(cmd, a.masterKey(file), r) },
	}
	rotate.Flags().StringVar(&r.to, "to", "", "`file` that the new key is put into, or found in")
	rotate.Flags().BoolVar(&r.endSessions, "end-sessions", false, "end temporary credentials at once, as if the old key were known to others")
	databaseFlags(rotate, &r.cfg)
	cmd.AddCommand(rotate, &cobra.Command{
		Use:   "status",
		Short: "Which keys there are, and how much each of them seals",
		Args:  exactly(0),
		RunE:  status,
	})
	return cmd
}

// rotation is how the key is to be rotated.
type rotation struct {
	to          string
	endSessions bool
	cfg         server.Config // says of the database, for where no server runs
}

// runningHere is the server that runs on the data folder; nil if none does.
func (a *app) runningHere(cmd *cobra.Command) (*remote, error) {
	running, err := control.ReadRunning(a.dataDir())
	if errors.Is(err, fs.ErrNotExist) || err == nil && !running.Alive(cmd.Context()) {
		return nil, nil
	}
	r := &remote{}
	if err := a.connectByFolder(r); err != nil {
		return nil, err
	}
	r.dial()
	return r, nil
}

func (a *app) keyStatus(cmd *cobra.Command, file string) error {
	r, err := a.runningHere(cmd)
	if err != nil {
		return err
	}
	if r == nil {
		d, err := identity.OpenDataKeys(a.dataDir(), file)
		if err != nil {
			return failed("can't read the keys of "+a.dataDir(), err, "Run this as the user that runs the server, or name its folder with --data.")
		}
		return a.printMaster(statusOf(d.Info()), false)
	}
	status, err := r.control.KeyStatus(cmd.Context())
	if err != nil {
		return r.failure("can't tell of the keys", err)
	}
	return a.printMaster(status, true)
}

func statusOf(i identity.MasterInfo) control.KeyStatus {
	s := control.KeyStatus{ID: i.ID, File: i.File, Inside: i.Inside}
	for _, k := range i.DataKeys {
		s.DataKeys = append(s.DataKeys, control.DataKey{Generation: k.Generation, Created: k.Created, Current: k.Current})
	}
	return s
}

func (a *app) rotateKey(cmd *cobra.Command, from string, how rotation) error {
	dir := a.dataDir()
	if !fileExists(filepath.Join(dir, identity.CredentialsFile)) {
		return refused("no server has started in "+dir+" yet", "Start one there, hearth up, or name another folder with --data.")
	}
	if how.to != "" {
		var err error
		if how.to, err = filepath.Abs(how.to); err != nil {
			return err
		}
	}
	r, err := a.runningHere(cmd)
	if err != nil {
		return err
	}
	if r == nil {
		return a.rotateHere(cmd.Context(), dir, from, how)
	}
	before, err := r.control.KeyStatus(cmd.Context())
	if err != nil {
		return r.failure("can't tell of the keys", err)
	}
	after, err := r.control.RotateKey(cmd.Context(), how.to, how.endSessions)
	if err != nil {
		return r.failure("can't rotate the key of "+dir, err)
	}
	if err := a.printMaster(after, true); err != nil {
		return err
	}
	a.sayWhere(before.File, after)
	return nil
}

// sayWhere tells what is left to do after a rotation.
func (a *app) sayWhere(from string, after control.KeyStatus) {
	if a.json || from == after.File {
		return
	}
	if fileExists(from) {
		a.say("The old key is still in %s. Remove it; it opens backups of before, and nothing else.", from)
	}
	if !after.Inside {
		a.say("Start the server with --master-key-file %s from now on.", after.File)
	}
}

// rotateHere rotates the key of a folder in which no server runs.
func (a *app) rotateHere(ctx context.Context, dir, from string, how rotation) error {
	to, cfg := how.to, how.cfg
	if to == "" {
		to = from
	}
	cfg.DataDir, cfg.MasterKeyFile = dir, from
	database, err := server.DatabaseOf(dir)
	if err != nil {
		return failed("can't rotate the key of "+dir, err, "")
	}
	if database != "" && cfg.Database == "" {
		return refused("the records of "+dir+" are in the database "+database+", where the keys are too", "Name it with --database, as for hearth up, or do this while the server runs.")
	}
	if err := noPassword(os.Args, cfg.Database); err != nil {
		return err
	}
	var info identity.MasterInfo
	if database != "" {
		info, err = server.RotateKey(ctx, cfg, to)
	} else {
		info, err = rotateFolder(dir, from, to)
	}
	if inUse, ok := errors.AsType[*store.InUseError](err); ok {
		return refused(fmt.Sprintf("a server (process %d) that does not answer holds %s", inUse.PID, dir), "Wait until it has started, or stop it, and do this again.")
	}
	if inUse, ok := errors.AsType[*postgres.InUseError](err); ok {
		return refused("another server works on the database "+inUse.Database+" ("+cmp.Or(inUse.Holder, "it is not known which")+")", "Do this where that one runs, with its data folder, or stop it first.")
	}
	if err != nil {
		return failed("can't rotate the key of "+dir, err, "Nothing that was sealed is lost; do it again.")
	}
	if err := a.auditRotation(dir, to); err != nil {
		return failed("the key was rotated, but that is not in the audit log", err, "")
	}
	after := statusOf(info)
	if err := a.printMaster(after, false); err != nil {
		return err
	}
	a.sayWhere(from, after)
	return nil
}

// rotateFolder rotates the key of a folder that has its records itself.
func rotateFolder(dir, from, to string) (info identity.MasterInfo, err error) {
	folder, err := store.OpenFolder(dir)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	return identity.Rotate(folder.Path, from, to, time.Now(), slog.Default())
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

// printMaster shows the keys, and what they seal if a server has counted that.
func (a *app) printMaster(s control.KeyStatus, counted bool) error {
	if a.json {
		return a.printJSON(s)
	}
	where := "outside the data folder"
	if s.Inside {
		where = "in the data folder: a copy of that has it too"
	}
	fmt.Fprintf(a.out, "master key %s in %s, %s\n", s.ID, s.File, where)
	left := 0
	for _, k := range s.DataKeys {
		made, does := "with the data folder", "opens what it has sealed"
		if !k.Created.IsZero() {
			made = k.Created.Format(time.DateOnly)
		}
		if k.Current {
			does = "seals what comes"
		}
		if counted {
			does += "; " + sealedBy(k)
			if !k.Current {
				left += k.Total()
			}
		}
		fmt.Fprintf(a.out, "data key %d, made %s, %s\n", k.Generation, made, does)
	}
	switch {
	case !counted && len(s.DataKeys) > 1:
		fmt.Fprintln(a.out, "no server runs: the next one seals anew what older keys have sealed, and removes them")
	case s.Failing != "":
		fmt.Fprintf(a.out, "%d are still sealed by older keys, which stay: %s\n", left, s.Failing)
	case s.Resealing && left > 0:
		fmt.Fprintf(a.out, "%d are to be sealed anew, %d have been\n", left, s.Resealed)
	}
	return nil
}

// sealedBy says how much a key seals, as in: seals 3: 2 access keys, 1 audit log.
func sealedBy(k control.DataKey) string {
	if k.Total() == 0 {
		return "seals nothing"
	}
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(k.Records)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, k.Records[kind]))
	}
	return fmt.Sprintf("seals %d (%s)", k.Total(), strings.Join(kinds, ", "))
}

func fileExists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
