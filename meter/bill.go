package meter

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/store"
)

// Query selects what a bill is of.
type Query struct {
	Account hearth.Account // "" is all accounts, and Nobody
	Month   string         // such as 2026-11, of universal time; "" is the present one
	// By is what its lines are by: "function", "api", "hour", "account"; "" is
	// "function".
	By string
}

// Bill is what an account has used in a month, and what that costs.
type Bill struct {
	Account hearth.Account `json:"account,omitempty"` // "" is all
	Month   string         `json:"month"`
	By      string         `json:"by"`
	// Currency is that of the prices that hold now, or at the end of a month that
	// is over. Lines of hours that had another name that, and the amounts of the
	// totals are of those in this one alone.
	Currency string    `json:"currency,omitempty"`
	At       time.Time `json:"at"` // everything used until then is in it
	Lines    []Line    `json:"lines"`
	Total    Line      `json:"total"`
	// Revenue is what other accounts have run of this one's code: their use, at
	// their expense, and as Cost what this account gets of that. Functions have
	// the names that their owner calls them by.
	Revenue      []Line `json:"revenue"`
	RevenueTotal Line   `json:"revenueTotal"`
}

// Line is a part of a bill. Which of the names it has depends on what the bill is by.
type Line struct {
	Account  hearth.Account `json:"account,omitempty"`
	Function string         `json:"function,omitempty"`
	API      string         `json:"api,omitempty"`
	Stage    string         `json:"stage,omitempty"`
	Owner    hearth.Account `json:"owner,omitempty"` // whose code it is, if another's
	Hour     Hour           `json:"hour,omitempty"`
	Currency string         `json:"currency,omitempty"` // if it is not the bill's

	Calls              int64   `json:"calls"`
	Errors             int64   `json:"errors"`
	Starts             int64   `json:"starts"`
	BusySeconds        float64 `json:"busySeconds"`
	CPUSeconds         float64 `json:"cpuSeconds"`
	AllottedMiBSeconds float64 `json:"allottedMiBSeconds"`
	HeldMiBSeconds     float64 `json:"heldMiBSeconds"`
	NetworkInBytes     int64   `json:"networkInBytes"`
	NetworkOutBytes    int64   `json:"networkOutBytes"`
	Cost               float64 `json:"cost"`   // with the markup
	Markup             float64 `json:"markup"` // what of it the owner of the code gets
}

// name is what lines are told apart by.
type name struct {
	account, owner       hearth.Account
	function, api, stage string
	hour                 Hour
	currency             string
}

func (l *Line) add(u *hearth.Metered, p Prices, markup float64) {
	base := p.Of(u)
	l.Calls += u.Calls
	l.Errors += u.Errors
	l.Starts += u.Starts
	l.BusySeconds += u.Busy.Seconds()
	l.CPUSeconds += u.CPU.Seconds()
	l.AllottedMiBSeconds += u.Allotted
	l.HeldMiBSeconds += u.Held
	l.NetworkInBytes += u.NetworkIn
	l.NetworkOutBytes += u.NetworkOut
	l.Markup += base * markup
	l.Cost += base * (1 + markup)
}

// groupings tell by what of a Key a line is named.
var groupings = map[string]func(Key) name{
	"function": func(k Key) name { return name{account: k.Account, function: k.Function, owner: k.Owner} },
	"api":      func(k Key) name { return name{account: k.Account, api: k.API, stage: k.Stage, owner: k.Owner} },
	"hour":     func(k Key) name { return name{account: k.Account, hour: k.Hour} },
	"account":  func(k Key) name { return name{account: k.Account} },
}

// asRevenue names lines as the owner of the code may see them, and tells the
// owners apart where there are several.
func asRevenue(group func(Key) name) func(Key) name {
	return func(k Key) name {
		k.Function = k.OwnerFunction
		n := group(k)
		n.owner = k.Owner
		return n
	}
}

var monthForm = regexp.MustCompile(`^[0-9]{4}-(0[1-9]|1[0-2])$`)

// Bill makes a bill of everything that was used until now. Errors:
// InvalidParameterValue.
func (m *Meter) Bill(ctx context.Context, q Query) (*Bill, error) {
	now := m.cfg.Clock.Now()
	q.Month = cmp.Or(q.Month, now.UTC().Format("2006-01"))
	q.By = cmp.Or(q.By, "function")
	if !monthForm.MatchString(q.Month) {
		return nil, hearth.Errorf(hearth.InvalidParameter, "month: %q is no month such as 2026-11.", q.Month)
	}
	group := groupings[q.By]
	if group == nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "by: %q is none of function, api, hour and account.", q.By)
	}
	if err := m.Flush(ctx); err != nil {
		return nil, err
	}
	b := &Bill{Account: q.Account, Month: q.Month, By: q.By, At: now, Currency: m.prices.currency(min(hourOf(now), lastOf(q.Month)))}
	err := m.cfg.Store.View(ctx, func(r store.Reader) (err error) {
		if b.Lines, b.Total, err = m.lines(r, bucket, b, group); err != nil {
			return err
		}
		// Seen by the owner of the code: the lines are the callers'.
		b.Revenue, b.RevenueTotal, err = m.lines(r, revenueBucket, b, asRevenue(group))
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range b.Revenue {
		b.Revenue[i].Cost = b.Revenue[i].Markup
	}
	b.RevenueTotal.Cost = b.RevenueTotal.Markup
	return b, nil
}

// Month is what an account has used in the present month, of what wanted
// selects, as far as it was told: it lags behind by a few seconds.
func (m *Meter) Month(ctx context.Context, account hearth.Account, wanted func(*Key) bool) (sum hearth.Metered, err error) {
	month := m.cfg.Clock.Now().UTC().Format("2006-01")
	// What moves from memory to the records meanwhile must be found once.
	m.writing.Lock()
	defer m.writing.Unlock()
	m.mu.Lock()
	for k, u := range m.pending {
		if k.Account == account && strings.HasPrefix(string(k.Hour), month) && wanted(&k) {
			sum.Add(u)
		}
	}
	m.mu.Unlock()
	told := sum
	err = m.cfg.Store.View(ctx, func(r store.Reader) error {
		sum = told
		for rec, err := range r.Scan(bucket, string(account)+"/"+month+"-", "") {
			if err != nil {
				return err
			}
			row, err := decodeRow(rec.Key, rec.Value)
			if err != nil {
				return err
			}
			if wanted(&row.Key) {
				sum.Add(&row.Used)
			}
		}
		return nil
	})
	return sum, err
}

// lines adds up records.
func (m *Meter) lines(r store.Reader, bucket string, b *Bill, group func(Key) name) (lines []Line, total Line, err error) {
	prefix := ""
	if b.Account != "" {
		prefix = string(b.Account) + "/" + b.Month + "-"
	}
	found := map[name]*Line{}
	for rec, err := range r.Scan(bucket, prefix, "") {
		if err != nil {
			return nil, total, err
		}
		if prefix == "" && !strings.HasPrefix(string(hourIn(rec.Key)), b.Month+"-") {
			continue
		}
		row, err := decodeRow(rec.Key, rec.Value)
		if err != nil {
			return nil, total, err
		}
		prices := m.prices.at(row.Hour)
		if row.Account == Nobody {
			prices = Prices{} // nobody pays
		}
		n := group(row.Key)
		if c := m.prices.currency(row.Hour); c != b.Currency && prices.any() {
			n.currency = c
		}
		l := found[n]
		if l == nil {
			l = &Line{Account: n.account, Function: n.function, API: n.api, Stage: n.stage, Owner: n.owner, Hour: n.hour, Currency: n.currency}
			found[n] = l
		}
		l.add(&row.Used, prices, row.Markup)
		if n.currency != "" {
			prices = Prices{} // amounts of another currency do not add up with these
		}
		total.add(&row.Used, prices, row.Markup)
	}
	lines = make([]Line, 0, len(found))
	for _, l := range found {
		lines = append(lines, *l)
	}
	slices.SortFunc(lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Hour, b.Hour), cmp.Compare(a.API, b.API),
			cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Function, b.Function), cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Currency, b.Currency))
	})
	return lines, total, nil
}
