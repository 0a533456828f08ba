package registry

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// The messages are the service's own; tools match on some of them.

func (r *Registry) arn(account hearth.Account, name string) string {
	return "arn:aws:lambda:" + r.cfg.Region + ":" + string(account) + ":function:" + name
}

func (r *Registry) notFound(account hearth.Account, name, qualifier string) error {
	arn := r.arn(account, name)
	if qualifier != "" {
		arn += ":" + qualifier
	}
	return hearth.Errorf(hearth.NotFound, "Function not found: %s", arn)
}

func inState(f *hearth.Function) error {
	return hearth.Errorf(hearth.Conflict, "The operation cannot be performed at this time. The function is currently in the following state: %s", f.State)
}

func inProgress(f *hearth.Function) error {
	return hearth.Errorf(hearth.Conflict, "The operation cannot be performed at this time. An update is in progress for resource: %s", f.ARN())
}

func wrongRevision() error {
	return hearth.Errorf(hearth.PreconditionFailed, "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id")
}

// codeSHA256 is a package's hash as the API shows it.
func codeSHA256(f *hearth.Function) string {
	if f.PackageType == image {
		return f.Package.SHA256
	}
	b, err := hex.DecodeString(f.Package.SHA256)
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(b)
}

func invalid(format string, args ...any) error {
	return hearth.Errorf(hearth.InvalidParameter, format, args...)
}

// internal hides a failure of the disk from the caller, and keeps it for the
// log.
func internal(op string, of interface{ ARN() string }, err error) error {
	if err == nil || hearth.KindOf(err) != hearth.Service {
		return err
	}
	e := &hearth.Error{Op: "registry." + op, Subject: of.ARN(), Kind: hearth.Service, Message: "The change could not be stored.", Err: err}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Message = hearth.Canceled, "The request was given up before it was done."
	case errors.Is(err, store.ErrFull):
		e.Message = "The change could not be stored: the server's disk is full."
	case errors.Is(err, store.ErrReadOnly):
		e.Message = "The change could not be stored: the server cannot write to its disk."
	}
	return e
}
