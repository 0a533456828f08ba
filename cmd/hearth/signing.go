package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/identity"
	"github.com/hearth-faas/hearth/signing"
)

// signatureLife is how long a signature counts unless told otherwise, as with
// AWS Signer.
const signatureLife = 135 * 30 * 24 * time.Hour

// profiles are the signing profiles of the data folder in use, which only who
// may write to it can change; the server reads them as they are.
func (a *app) profiles() (signing.Profiles, error) {
	root, err := identity.ReadRoot(a.dataDir())
	if err != nil {
		return signing.Profiles{}, failed("can't read the account of "+a.dataDir(), err, "Start a server there first: hearth up.")
	}
	return signing.Profiles{Dir: filepath.Join(a.dataDir(), signing.FolderName), Account: string(root.Account), Region: root.Region}, nil
}

// added is what hearth signing create and add print with --json.
type added struct {
	ARN string `json:"profileVersionArn"`
	Key string `json:"keyFile,omitempty"`
}

func (a *app) signingCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "signing",
		Short: "Whose code is trusted: signing profiles",
		Long: `A signing profile stands for who signs code. Its versions are certificates;
their ARNs go into the AllowedPublishers of a code signing configuration.

  hearth signing create team     a key and its certificate, registered
  hearth sign code.zip --profile ARN --key team.key.pem`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	create := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a key and register its certificate; the key goes to NAME.key.pem",
		Args:  exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := a.profiles()
			if err != nil {
				return err
			}
			file := args[0] + ".key.pem"
			secret, cert, err := signing.NewKey(args[0], time.Now(), 10*365*24*time.Hour)
			if err != nil {
				return err
			}
			arn, err := p.Add(args[0], cert)
			if err != nil {
				return err
			}
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err == nil {
				_, err = f.Write(secret)
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				return errors.Join(err, p.Remove(arn))
			}
			return a.tellAdded(added{arn, file})
		},
	}
	add := &cobra.Command{
		Use:   "add NAME CERTIFICATE",
		Short: "Register a certificate (PEM, ECDSA or Ed25519) as a version of a profile",
		Args:  exactly(2),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := a.profiles()
			if err != nil {
				return err
			}
			text, err := os.ReadFile(args[1])
			if err != nil {
				return err
			}
			arn, err := p.Add(args[0], text)
			if err != nil {
				return err
			}
			return a.tellAdded(added{ARN: arn})
		},
	}
	ls := &cobra.Command{
		Use:   "ls",
		Short: "List the registered versions of profiles",
		Args:  exactly(0),
		RunE: func(*cobra.Command, []string) error {
			p, err := a.profiles()
			if err != nil {
				return err
			}
			list, err := p.List()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(append([]signing.Registered{}, list...))
			}
			t := table{header: []string{"PROFILE VERSION", "CERTIFICATE OF", "UNTIL"}}
			for _, r := range list {
				t.add(r.ARN, r.Subject, r.Expires.Format(time.DateOnly))
			}
			t.print(a.out, a)
			return nil
		},
	}
	rm := &cobra.Command{
		Use:   "rm ARN",
		Short: "Take back a version of a profile: what it signed is not trusted any more",
		Args:  exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := a.profiles()
			if err != nil {
				return err
			}
			return p.Remove(args[0])
		},
	}
	cmd.AddCommand(create, add, ls, rm)
	return cmd
}

func (a *app) tellAdded(made added) error {
	if a.json {
		return a.printJSON(made)
	}
	fmt.Fprintln(a.out, made.ARN)
	if made.Key != "" {
		a.say("The key is in %s. Sign with: hearth sign ZIP --profile ARN --key %s", made.Key, made.Key)
	}
	return nil
}

func (a *app) signCmd() *cobra.Command {
	var profile, key, out string
	life := signatureLife
	cmd := &cobra.Command{
		Use:   "sign ZIP",
		Short: "Sign a function's or layer's archive",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.profiles()
			if err != nil {
				return err
			}
			if _, err := p.Certificate(profile); err != nil {
				return failed("can't sign for "+profile, err, "See hearth signing ls.")
			}
			secret, err := os.ReadFile(key)
			if err != nil {
				return err
			}
			signer, err := signing.ParseKey(secret)
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			archive, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			signed, err := signing.Sign(cmd.Context(), archive, signing.Request{
				Profile: profile, Account: p.Account, Region: p.Region, Key: signer, Now: time.Now(), Valid: life,
			})
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if out == "" {
				out = args[0]
			}
			if err := os.WriteFile(out, signed, 0o644); err != nil {
				return err
			}
			a.say("Signed: %s", out)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&profile, "profile", "", "`ARN` of the profile's version")
	flags.StringVar(&key, "key", "", "`file` with the private key (PEM)")
	flags.StringVarP(&out, "output", "o", "", "`file` to write to (default: the archive itself)")
	flags.DurationVar(&life, "valid", signatureLife, "how long the signature counts")
	for _, name := range []string{"profile", "key"} {
		_ = cmd.MarkFlagRequired(name) // there is such a flag
	}
	return cmd
}
