// Package tags is what the Lambda API's resources have in common as to tags:
// how many there may be, and how they are set and removed. The maps that it is
// given are never changed.
package tags

import (
	"maps"

	"github.com/hearth-faas/hearth"
)

// Limit is how many tags a resource may have, as in the service.
const Limit = 50

// Check refuses more tags than a resource may have, with
// InvalidParameterValue.
func Check(tags map[string]string) error {
	if len(tags) > Limit {
		return hearth.Errorf(hearth.InvalidParameter, "Number of tags exceeds resource tag limit.")
	}
	return nil
}

// With returns the tags with more set. Errors: that of Check.
func With(tags, more map[string]string) (map[string]string, error) {
	all := make(map[string]string, len(tags)+len(more))
	maps.Copy(all, tags)
	maps.Copy(all, more)
	return all, Check(all)
}

// Without returns the tags but those with the keys; that there are none is no
// error.
func Without(tags map[string]string, keys []string) map[string]string {
	rest := make(map[string]string, len(tags))
	maps.Copy(rest, tags)
	for _, k := range keys {
		delete(rest, k)
	}
	return rest
}
