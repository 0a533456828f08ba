package image

import (
	"context"
	"errors"
	"io/fs"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/hearth-faas/hearth"
)

// What the caller of the API is told, in the service's words where it has any:
// refusal when an image is named, failure when it is brought here later.

func notValid(uri string, cause error) error {
	return &hearth.Error{Op: "image.Resolve", Subject: uri, Kind: hearth.InvalidParameter, Err: cause,
		Message: "Source image " + uri + " is not valid. Provide a valid source image."}
}

func refusal(uri string, err error) error {
	e := &hearth.Error{Op: "image.Resolve", Subject: uri, Kind: hearth.InvalidParameter, Err: err}
	switch sort(err) {
	case known:
		return err
	case denied:
		e.Kind, e.Message = hearth.AccessDenied, "Lambda does not have permission to access the ECR image. Check the ECR permissions."
	case missing:
		e.Message = "Source image " + uri + " does not exist. Provide a valid source image."
	case media:
		e.Message = "The image manifest, config or layer media type for the source image " + uri + " is not supported."
	case wrong:
		e.Message = "Source image " + uri + " is not valid. Provide a valid source image. (" + err.Error() + ")"
	case notHere:
		e.Message = "Source image " + uri + " is not allowed: " + err.Error() + "."
	default:
		e.Kind, e.Message = hearth.Service, "The source image "+uri+" could not be read: where it is said to be does not answer."
	}
	return e
}

func failure(uri string, err error) error {
	e := &hearth.Error{Op: "image.Acquire", Subject: uri, Err: err}
	switch sort(err) {
	case known:
		return err
	case denied:
		e.Kind, e.Message = hearth.ImageAccessDenied, "Lambda does not have permission to access the ECR image. Check the ECR permissions."
	case missing:
		e.Kind, e.Message = hearth.ImageDeleted, "Source image "+uri+" does not exist. Provide a valid source image."
	case media:
		e.Kind, e.Message = hearth.InvalidImage, "The image manifest, config or layer media type for the source image "+uri+" is not supported."
	case wrong:
		e.Kind, e.Message = hearth.InvalidImage, "Source image "+uri+" is not valid: "+err.Error()+"."
	case notHere:
		e.Kind, e.Message = hearth.ImageAccessDenied, "Source image "+uri+" is not allowed: "+err.Error()+"."
	default:
		e.Kind, e.Message = hearth.Service, "The image "+uri+" could not be brought here."
	}
	return e
}

type sortOfError int

const (
	other sortOfError = iota
	known
	denied
	missing
	media
	wrong
	notHere // by the server's settings
)

func sort(err error) sortOfError {
	if _, ok := errors.AsType[*hearth.Error](err); ok {
		return known
	}
	if _, ok := errors.AsType[*invalidImage](err); ok {
		return wrong
	}
	if _, ok := errors.AsType[*unsupported](err); ok {
		return media
	}
	if _, ok := errors.AsType[*barred](err); ok {
		return notHere
	}
	if e, ok := errors.AsType[*transport.Error](err); ok {
		switch e.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return denied
		case http.StatusNotFound:
			return missing
		}
		return other
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return other
	case errors.Is(err, fs.ErrNotExist):
		return missing
	case errors.Is(err, fs.ErrPermission):
		return denied
	}
	return other
}
