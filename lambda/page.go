package lambda

import (
	"encoding/base64"
	"maps"
	"slices"

	hearth "github.com/hearth-faas/hearth"
)

// A marker of a list that is read from memory is the key of the last item
// that was returned, in base64 so that nobody builds on it.

func markerAfter(key string) *string {
	return new(base64.URLEncoding.EncodeToString([]byte("=" + key)))
}

// afterMarker is the key that a list goes on after; found is false at its
// beginning.
func afterMarker(marker *string) (key string, found bool, err error) {
	if str(marker) == "" {
		return "", false, nil
	}
	b, err := base64.URLEncoding.DecodeString(*marker)
	if err != nil || len(b) == 0 || b[0] != '=' {
		return "", false, hearth.Errorf(hearth.InvalidParameter, "The marker is not one that this operation returned.")
	}
	return string(b[1:]), true, nil
}

// pageOfKeys is the page of at most max of the map's keys, in their order,
// that follows the marker, and the marker of the next one.
func pageOfKeys[V any](m map[string]V, marker *string, max int) (keys []string, next *string, err error) {
	after, found, err := afterMarker(marker)
	if err != nil {
		return nil, nil, err
	}
	keys = slices.Sorted(maps.Keys(m))
	if found {
		i, exact := slices.BinarySearch(keys, after)
		if exact {
			i++
		}
		keys = keys[i:]
	}
	if len(keys) > max {
		keys = keys[:max]
		next = markerAfter(keys[max-1])
	}
	return keys, next, nil
}
