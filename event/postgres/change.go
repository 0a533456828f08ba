package postgres

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/hearth-faas/hearth/event/poll"
)

// place is a change's: the end of its transaction in the server's log, and
// which of the transaction's it is, from 0 on. Transactions come in the order
// of their ends.
type place struct {
	end pglogrepl.LSN
	n   int
}

func (p place) String() string { return p.end.String() + ":" + strconv.Itoa(p.n) }

func (p place) before(q place) bool { return p.end < q.end || p.end == q.end && p.n < q.n }

func parsePlace(text string) (p place, err error) {
	lsn, n, ok := strings.Cut(text, ":")
	if p.end, err = pglogrepl.ParseLSN(lsn); err == nil {
		p.n, err = strconv.Atoi(n)
	}
	if err != nil || !ok {
		return place{}, fmt.Errorf("%q is no position in a change feed", text)
	}
	return p, nil
}

// transaction is one that is being taken in or was.
type transaction struct {
	end   pglogrepl.LSN // of its changes
	after pglogrepl.LSN // from where the server need not tell it again; 0 until it is whole
	count int           // of its changes
	at    time.Time
	xid   uint32
}

// pass lets the server forget the transactions that are done. f.mu is held.
func (f *feed) pass() {
	moved := false
	for len(f.txs) > 0 {
		t := f.txs[0]
		if t.after == 0 || t.count > 0 && f.dealt.before(place{t.end, t.count - 1}) {
			break
		}
		f.done, moved = max(f.done, t.after), true
		f.txs = f.txs[1:]
	}
	if moved {
		select {
		case f.tell <- struct{}{}:
		default:
		}
	}
}

// table is what is known of a table: it comes before its first change.
type table struct {
	schema, name string
	columns      []column
}

type column struct {
	name string
	oid  uint32
	key  bool
}

// decode takes in a change.
func (f *feed) decode(change pglogrepl.Message) error {
	switch c := change.(type) {
	case *pglogrepl.BeginMessage:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.current = &transaction{end: c.FinalLSN, at: c.CommitTime, xid: c.Xid}
		f.txs = append(f.txs, f.current)
	case *pglogrepl.CommitMessage:
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.current == nil {
			return fmt.Errorf("PostgreSQL: a commit without its beginning at %s", c.CommitLSN)
		}
		f.current.after = c.TransactionEndLSN
		if n := len(f.txs); f.current.count == 0 && n > 1 {
			// One without changes of these tables goes with the one before, so
			// that any number of them takes no room.
			f.txs[n-2].after = c.TransactionEndLSN
			f.txs = f.txs[:n-1]
		}
		f.current = nil
		f.pass()
	case *pglogrepl.RelationMessage:
		t := &table{schema: c.Namespace, name: c.RelationName}
		for _, col := range c.Columns {
			key := col.Flags&1 != 0
			if c.ReplicaIdentity == 'f' { // every column is said to be of the key
				key = f.primary[c.RelationID][col.Name]
			}
			t.columns = append(t.columns, column{col.Name, col.DataType, key})
		}
		f.tables[c.RelationID] = t
	case *pglogrepl.InsertMessage:
		return f.add(c.RelationID, "INSERT", c.Tuple, nil, false)
	case *pglogrepl.UpdateMessage:
		return f.add(c.RelationID, "MODIFY", c.NewTuple, c.OldTuple, c.OldTupleType == 'K')
	case *pglogrepl.DeleteMessage:
		return f.add(c.RelationID, "REMOVE", nil, c.OldTuple, c.OldTupleType == 'K')
	case *pglogrepl.TruncateMessage:
		for _, id := range c.RelationIDs {
			if err := f.add(id, "TRUNCATE", nil, nil, false); err != nil {
				return err
			}
		}
	}
	return nil // types and origins
}

// row is a row's columns by their names.
type row map[string]json.RawMessage

// details are what of a record is PostgreSQL's.
type details struct {
	Schema    string   `json:"schema"`
	Table     string   `json:"table"`
	LSN       string   `json:"lsn"`
	XID       uint32   `json:"xid"`
	Committed string   `json:"commitTime"`
	Keys      row      `json:"keys"`
	New       row      `json:"new,omitempty"`
	Old       row      `json:"old,omitempty"`
	Unchanged []string `json:"unchanged,omitempty"`
}

// add has a change waiting for Read, unless it was processed before.
func (f *feed) add(relation uint32, name string, new, old *pglogrepl.TupleData, onlyKeys bool) error {
	t := f.tables[relation]
	if t == nil || f.current == nil {
		return fmt.Errorf("PostgreSQL: a change of a table that was not described (%d)", relation)
	}
	tx := f.current
	p := place{tx.end, tx.count}
	d := details{Schema: t.schema, Table: t.name, LSN: tx.end.String(), XID: tx.xid, Committed: tx.at.UTC().Format(time.RFC3339Nano), Keys: row{}}
	if new != nil {
		d.New, d.Unchanged = t.row(new, false)
	}
	if old != nil {
		d.Old, _ = t.row(old, onlyKeys)
	}
	for _, c := range t.columns {
		if !c.key {
			continue
		}
		if value, ok := d.New[c.name]; ok {
			d.Keys[c.name] = value
		} else if value, ok := d.Old[c.name]; ok {
			d.Keys[c.name] = value
		}
	}
	body, err := json.Marshal(map[string]any{"eventID": p.String(), "eventName": name, "eventVersion": "1.0", "eventSource": "hearth:postgres",
		"eventSourceARN": f.source, "awsRegion": f.region, "postgres": d})
	if err != nil {
		return fmt.Errorf("PostgreSQL: a change of %s.%s: %w", t.schema, t.name, err)
	}
	keys, err := json.Marshal(d.Keys)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	tx.count++
	if !f.skip.before(p) {
		f.dealt = p
		return nil
	}
	f.waiting = append(f.waiting, &poll.Record{ID: p.String(), Body: body, Position: p.String(), Sent: tx.at, Group: t.schema + "." + t.name + string(keys)})
	f.bytes += len(body)
	f.changed()
	return nil
}

// row is a tuple by the columns' names, and the columns whose values are large
// and were not changed, of which the server does not tell the value.
func (t *table) row(tuple *pglogrepl.TupleData, onlyKeys bool) (r row, unchanged []string) {
	r = row{}
	for i, value := range tuple.Columns {
		if i >= len(t.columns) {
			break
		}
		c := t.columns[i]
		switch {
		case onlyKeys && !c.key: // it is sent as if it were NULL
		case value.DataType == 'n':
			r[c.name] = json.RawMessage("null")
		case value.DataType == 'u':
			unchanged = append(unchanged, c.name)
		default:
			r[c.name] = valueOf(c.oid, value.Data)
		}
	}
	return r, unchanged
}

// valueOf is a value as JSON: numbers that JSON's readers keep whole, truth
// values and JSON as what they are, all else as PostgreSQL writes it.
func valueOf(oid uint32, text []byte) json.RawMessage {
	switch oid {
	case pgtype.BoolOID:
		if string(text) == "t" {
			return json.RawMessage("true")
		}
		return json.RawMessage("false")
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID, pgtype.Float4OID, pgtype.Float8OID, pgtype.JSONOID, pgtype.JSONBOID:
		if json.Valid(text) { // NaN and Infinity are not
			return append(json.RawMessage(nil), text...)
		}
	}
	quoted, err := json.Marshal(string(text))
	if err != nil {
		panic(err) // a string can always be marshalled
	}
	return quoted
}
