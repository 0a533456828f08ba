package registry

import (
	"context"

	"github.com/hearth-faas/hearth"
)

// noImages is for a Registry without images.
type noImages struct{}

func (noImages) Resolve(_ context.Context, uri, _ string) (pinned, digest string, err error) {
	return "", "", hearth.Errorf(hearth.InvalidParameter, "Source image %s is not valid. Provide a valid source image.", uri)
}

func (noImages) Forget(string)          {}
func (noImages) Keep(func(string) bool) {}
