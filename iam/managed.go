package iam

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// managedJSON is the managed policies of AWS that functions usually have: the
// documents are AWS's own.
//
//go:embed managed.json
var managedJSON []byte

// managedSince stands for when they were made, which nobody here knows.
var managedSince = time.Date(2015, 4, 9, 15, 3, 43, 0, time.UTC)

// managed are the managed policies of AWS by ARN.
var managed = sync.OnceValue(func() map[string]*Policy {
	var list []struct {
		Name, Path, Description string
		Document                json.RawMessage
	}
	if err := json.Unmarshal(managedJSON, &list); err != nil {
		panic(fmt.Sprintf("iam: managed.json: %v", err)) // it is part of the program
	}
	all := map[string]*Policy{}
	for _, l := range list {
		p := &Policy{
			Name: l.Name, Path: l.Path, Description: l.Description, Created: managedSince, Updated: managedSince,
			Versions: []Version{{"v1", string(l.Document), managedSince}}, Default: "v1", Made: 1,
		}
		sum := sha256.Sum256([]byte(p.ARN()))
		p.ID = "ANPA" + base32.StdEncoding.EncodeToString(sum[:])[:17]
		all[p.ARN()] = p
	}
	return all
})

// managedList are the managed policies of AWS by ARN, in order.
func managedList() (all []*Policy) {
	for _, p := range managed() {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *Policy) int { return strings.Compare(a.ARN(), b.ARN()) })
	return all
}
