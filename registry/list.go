package registry

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/hearth-faas/hearth"
)

// maxPage is how many functions or versions an answer holds, also when more
// are asked for, as with the service.
const maxPage = 50

// List returns the account's functions in the order of their names: each
// one's $LATEST or, with allVersions, that followed by its versions. At most
// max are returned, or 50; next is "" or the marker that the list goes on
// with. What is added or removed meanwhile may or may not be in the list; all
// else is in it once.
func (r *Registry) List(_ context.Context, id hearth.Account, marker string, max int, allVersions bool) (fs []*hearth.Function, next string, err error) {
	name, after, err := readMarker(marker)
	if err != nil {
		return nil, "", err
	}
	max = page(max)
	// One for the marker's own, which may have nothing left, and one to see
	// whether the list goes on.
	names := r.names(id, name, max+2)
	for _, n := range names {
		v := r.view(key{id, n})
		if v == nil {
			continue
		}
		from := 0
		if n == name {
			from = after + 1 // what the marker names was the last one returned
		}
		if from > publishedNumber {
			continue
		}
		entries := v.from(from, allVersions)
		for _, f := range entries {
			if len(fs) == max {
				return fs, markerOf(fs[max-1]), nil
			}
			fs = append(fs, f)
		}
	}
	if len(names) == max+2 {
		// Some of them were deleted meanwhile; others may follow.
		return fs, marked(names[max+1], maxNumber), nil
	}
	return fs, "", nil
}

// names returns up to n of the account's function names from name on.
func (r *Registry) names(id hearth.Account, name string, n int) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.accounts[id]
	if a == nil {
		return nil
	}
	i, _ := slices.BinarySearch(a.names, name)
	return slices.Clone(a.names[i:min(len(a.names), i+n)])
}

// from returns $LATEST as number 0 and, with all, the versions and
// $LATEST.PUBLISHED, from the number on, which is at most publishedNumber.
func (v *view) from(number int, all bool) (fs []*hearth.Function) {
	if number == 0 {
		fs = append(fs, v.newest)
	}
	if all {
		for i := range v.versions {
			if v.versions[i].number >= number {
				fs = append(fs, v.versions[i].f)
			}
		}
		if v.published != nil {
			fs = append(fs, v.published.newest)
		}
	}
	return fs
}

// Versions returns $LATEST and the function's versions in the order of their
// numbers, by pages as List does.
func (r *Registry) Versions(_ context.Context, account hearth.Account, name, marker string, max int) (fs []*hearth.Function, next string, err error) {
	v := r.view(key{account, name})
	if v == nil {
		return nil, "", r.notFound(account, name, "")
	}
	from := 0
	if marker != "" {
		of, after, err := readMarker(marker)
		if err != nil {
			return nil, "", err
		}
		if of != name {
			return nil, "", badMarker()
		}
		from = after + 1
	}
	if from > publishedNumber {
		return nil, "", nil
	}
	fs = v.from(from, true)
	if max = page(max); len(fs) > max {
		fs = fs[:max]
		next = markerOf(fs[max-1])
	}
	return fs, next, nil
}

func page(max int) int {
	if max <= 0 || max > maxPage {
		return maxPage
	}
	return max
}

// A marker is the name and number of the last function that was returned, in
// base64 so that nobody builds on it.

func markerOf(f *hearth.Function) string { return marked(f.Name, mark(f)) }

func marked(name string, number int) string {
	return base64.URLEncoding.EncodeToString([]byte(name + ":" + strconv.Itoa(number)))
}

// maxNumber is above all versions' numbers.
const maxNumber = 1 << 30

func readMarker(marker string) (name string, number int, err error) {
	if marker == "" {
		return "", 0, nil
	}
	b, err := base64.URLEncoding.DecodeString(marker)
	if err != nil {
		return "", 0, badMarker()
	}
	name, digits, ok := strings.Cut(string(b), ":")
	number, err = strconv.Atoi(digits)
	if !ok || err != nil || number < 0 || number > maxNumber || !validName(name) {
		return "", 0, badMarker()
	}
	return name, number, nil
}

func badMarker() error { return invalid("The marker is not one that this operation returned.") }

// Usage counts the account's functions and their code.
func (r *Registry) Usage(_ context.Context, id hearth.Account) (Usage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.accounts[id]
	if a == nil {
		return Usage{}, nil
	}
	return Usage{CodeBytes: a.code, Functions: len(a.names)}, nil
}
