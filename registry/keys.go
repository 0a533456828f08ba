package registry

import (
	"errors"
	"strings"

	"github.com/hearth-faas/hearth"
)

// Keys are the keys of one's own that functions may name (KMSKeyARN), by their
// ARNs. Errors of all: KMSNotFound; of Check and Seal also KMSDisabled.
type Keys interface {
	Check(arn string) error
	Seal(arn string, plain, associated []byte) ([]byte, error)
	// Open opens also what a disabled key sealed: what must not be used is
	// told by Check where it would be.
	Open(arn string, sealed, associated []byte) ([]byte, error)
}

// vault seals environments: by the key that the function names, or the
// server's own.
type vault struct {
	own  Sealer
	keys Keys
}

func (r *Registry) vault() vault { return vault{r.cfg.Secrets, r.cfg.Keys} }

// seal encrypts f's environment, and returns the ARN of the key that it is
// under, "" for the server's own.
func (v vault) seal(f *hearth.Function, plain []byte) (sealed []byte, key string, err error) {
	if f.KMSKeyARN == "" || v.keys == nil {
		sealed, err = v.own.Seal(plain, sealedTo(f.Account, f.Name))
		return sealed, "", err
	}
	sealed, err = v.keys.Seal(f.KMSKeyARN, plain, sealedTo(f.Account, f.Name))
	return sealed, f.KMSKeyARN, err
}

// open decrypts what seal made; nil if its key is gone for good, with which
// the environment is, too: invocations are refused by Check.
func (v vault) open(f *hearth.Function, sealed []byte, key string) ([]byte, error) {
	if key == "" {
		return v.own.Open(sealed, sealedTo(f.Account, f.Name))
	}
	if v.keys == nil {
		return nil, errors.New("it is under the key " + key + ", and there are no keys")
	}
	plain, err := v.keys.Open(key, sealed, sealedTo(f.Account, f.Name))
	if hearth.KindOf(err) == hearth.KMSNotFound {
		return nil, nil
	}
	return plain, err
}

// checkKey tells whether f may be put under the key that it names.
func (r *Registry) checkKey(f *hearth.Function) error {
	if f.KMSKeyARN == "" || r.cfg.Keys == nil {
		return nil
	}
	err := r.cfg.Keys.Check(f.KMSKeyARN)
	// Another account's key is as if it were not there.
	if parts := strings.SplitN(f.KMSKeyARN, ":", 6); len(parts) == 6 && hearth.Account(parts[4]) != f.Account {
		err = hearth.Errorf(hearth.KMSNotFound, "another account's")
	}
	const why = "Lambda was unable to configure access to your environment variables because the KMS key is invalid for CreateGrant. Please check your KMS key settings. KMS Exception: "
	switch hearth.KindOf(err) {
	case hearth.KMSNotFound:
		return invalid(why+"NotFoundException KMS Message: Key '%s' does not exist", f.KMSKeyARN)
	case hearth.KMSDisabled:
		return invalid(why+"DisabledException KMS Message: %s is disabled.", f.KMSKeyARN)
	}
	return err
}
