package share

import (
	"cmp"
	"errors"
	"slices"
	"strconv"

	"github.com/hearth-faas/hearth"
)

func itoa(n int) string { return strconv.Itoa(n) }

// told is what the caller of an API is told of an error.
func told(err error) string {
	if e, ok := errors.AsType[*hearth.Error](err); ok {
		return e.Message
	}
	return err.Error()
}

func sorted(list []hearth.SharedUse) []hearth.SharedUse {
	slices.SortFunc(list, func(a, b hearth.SharedUse) int {
		return cmp.Or(cmp.Compare(a.Offer, b.Offer), cmp.Compare(a.Account, b.Account))
	})
	return list
}
