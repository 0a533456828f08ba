package meter

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
)

// The records: one for each Key. Those of the same account and month follow one
// another. Of shared runs there is a second one where the owner looks.
const (
	bucket        = "meter"         // ACCOUNT/HOUR/FUNCTION/OWNER/MARKUP/API/STAGE/OWNERFUNCTION
	revenueBucket = "meter.revenue" // OWNER/HOUR/ACCOUNT/FUNCTION/MARKUP/API/STAGE/OWNERFUNCTION
)

// rowVersion is that of the records' form. A later form reads this one.
const rowVersion = 1

// Row is what was used under a Key.
type Row struct {
	Key
	Used hearth.Metered `json:"used"`
}

type storedRow struct {
	Version int `json:"v"`
	Row
}

// Hour is an hour of universal time, such as 2026-11-28T19. Hours sort as text.
type Hour string

const hourForm = "2006-01-02T15"

func hourOf(t time.Time) Hour { return Hour(t.UTC().Format(hourForm)) }

// lastOf is a month's last hour, or an hour that sorts after it and before the
// next month.
func lastOf(month string) Hour { return Hour(month + "-31T23") }

func (h Hour) day() string { return string(h)[:min(len(h), len("2006-01-02"))] }

// hourIn is the hour in a record's key.
func hourIn(record string) Hour {
	_, rest, _ := strings.Cut(record, "/")
	hour, _, _ := strings.Cut(rest, "/")
	return Hour(hour)
}

func (k Key) rest() string {
	rest := strconv.FormatFloat(k.Markup, 'g', -1, 64) + "/" + k.API + "/" + k.Stage
	if k.OwnerFunction != "" {
		rest += "/" + k.OwnerFunction
	}
	return rest
}

func (k Key) record() string {
	return string(k.Account) + "/" + string(k.Hour) + "/" + k.Function + "/" + string(k.Owner) + "/" + k.rest()
}

func (k Key) revenueRecord() string {
	return string(k.Owner) + "/" + string(k.Hour) + "/" + string(k.Account) + "/" + k.Function + "/" + k.rest()
}

func encodeRow(r *Row) []byte {
	b, err := json.Marshal(storedRow{rowVersion, *r})
	if err != nil {
		panic(err) // of plain types; a sum of finite numbers this small is finite
	}
	return b
}

func decodeRow(name string, value []byte) (*Row, error) {
	var r storedRow
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, fmt.Errorf("meter: the record %s is damaged: %w", name, err)
	}
	if r.Version != rowVersion {
		return nil, fmt.Errorf("meter: the record %s is of version %d, and this Hearth knows %d: it was written by a newer one", name, r.Version, rowVersion)
	}
	return &r.Row, nil
}
