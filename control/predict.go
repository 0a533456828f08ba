package control

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// Predictions are what is foretold. Safe for concurrent use.
type Predictions interface {
	// Hint takes a notice of invocations that are coming, and returns its id.
	Hint(ctx context.Context, h Hint) (id string, err error)
	// Triggers are those of the account, by name.
	Triggers(ctx context.Context, account hearth.Account) ([]Trigger, error)
	// SetTrigger makes or replaces a trigger. The token of one from outside is
	// told this once.
	SetTrigger(ctx context.Context, account hearth.Account, t Trigger) (token string, err error)
	RemoveTrigger(ctx context.Context, account hearth.Account, name string) error
	// Fire says that a trigger from outside has come, and FireWith is Fire for
	// whoever has its token.
	Fire(account hearth.Account, name string) error
	FireWith(account hearth.Account, name, token string) error
}

// Hint says that invocations of a function are coming.
type Hint struct {
	Account   hearth.Account
	Function  string
	Qualifier string
	Count     int       // at once
	At        time.Time // when
	Until     time.Time // when what was not used is released
}

// Trigger is something that foretells invocations.
type Trigger struct {
	Name string `json:"name"`
	// Run is the function whose runs are the trigger; "" is a notice from
	// outside.
	Run       string    `json:"run,omitempty"`
	Functions []string  `json:"functions"` // whose invocations it foretells
	Created   time.Time `json:"created"`
	// Token lets whoever has it give the notice. It is told only by
	// /triggers/set.
	Token string `json:"token,omitempty"`
	// Learned says, for each function, how it is invoked after the trigger.
	Learned []string `json:"learned,omitempty"`
}

// Learned tells what the systems that learn know of a function.
type Learned interface {
	Learned(ctx context.Context, account hearth.Account, function string) ([]Section, error)
}

// Section is what one system knows of a function, and would do next.
type Section struct {
	System string   `json:"system"`
	Says   []string `json:"says"`
}

// LearnedOf is the answer of /learned.
type LearnedOf struct {
	Function string    `json:"function"`
	Sections []Section `json:"sections"`
}

func (h *Handler) learned(ctx context.Context, a ask) (any, error) {
	if _, err := needed(a, "function"); err != nil {
		return nil, err
	}
	function, err := ofAll(a.q)
	if err != nil {
		return nil, err
	}
	sections, err := h.Learned.Learned(ctx, a.account, function)
	for i := range sections {
		sections[i].Says = some(sections[i].Says)
	}
	return LearnedOf{function, some(sections)}, err
}

func needed(a ask, name string) (string, error) {
	if v := a.q.Get(name); v != "" {
		return v, nil
	}
	return "", hearth.Errorf(hearth.InvalidParameter, "Which one? Add ?%s=NAME.", name)
}

// maxHintCount bounds the invocations of one hint.
const maxHintCount = 1000

// Hinted is the answer of /hint.
type Hinted struct {
	ID string `json:"id"`
}

func (h *Handler) hint(ctx context.Context, a ask) (any, error) {
	function, err := needed(a, "function")
	if err != nil {
		return nil, err
	}
	count, err := number(a.q, "count", 1, maxHintCount)
	if err != nil {
		return nil, err
	}
	at := time.Now()
	if s := a.q.Get("at"); s != "" {
		if at, err = time.Parse(time.RFC3339Nano, s); err != nil {
			return nil, hearth.Errorf(hearth.InvalidParameter, "at: %q is no time such as 2006-01-02T15:04:05Z.", s)
		}
	}
	lasts := time.Minute
	if s := a.q.Get("for"); s != "" {
		if lasts, err = time.ParseDuration(s); err != nil {
			return nil, hearth.Errorf(hearth.InvalidParameter, "for: %q is no duration such as 90s.", s)
		}
	}
	id, err := h.Predictions.Hint(ctx, Hint{a.account, function, a.q.Get("qualifier"), count, at, at.Add(lasts)})
	return Hinted{id}, err
}

// TriggerList is the answer of /triggers.
type TriggerList struct {
	Triggers []Trigger `json:"triggers"`
}

func (h *Handler) triggers(ctx context.Context, a ask) (any, error) {
	list, err := h.Predictions.Triggers(ctx, a.account)
	return TriggerList{some(list)}, err
}

func (h *Handler) setTrigger(ctx context.Context, a ask) (any, error) {
	var t Trigger
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&t); err != nil {
		return nil, hearth.Errorf(hearth.InvalidParameter, "The body is no trigger: %v.", err)
	}
	token, err := h.Predictions.SetTrigger(ctx, a.account, Trigger{Name: t.Name, Run: t.Run, Functions: t.Functions})
	if err != nil {
		return nil, err
	}
	list, err := h.Predictions.Triggers(ctx, a.account)
	if err != nil {
		return nil, err
	}
	for _, made := range list {
		if made.Name == t.Name {
			made.Token = token
			return made, nil
		}
	}
	return nil, hearth.Errorf(hearth.Conflict, "The trigger %s was removed at the same time.", t.Name)
}

// Fired is the answer of /triggers/remove, /triggers/fire and /trigger.
type Fired struct {
	Name string `json:"name"`
}

func (h *Handler) removeTrigger(ctx context.Context, a ask) (any, error) {
	name, err := needed(a, "name")
	if err != nil {
		return nil, err
	}
	return Fired{name}, h.Predictions.RemoveTrigger(ctx, a.account, name)
}

func (h *Handler) fire(_ context.Context, a ask) (any, error) {
	name, err := needed(a, "name")
	if err != nil {
		return nil, err
	}
	return Fired{name}, h.Predictions.Fire(a.account, name)
}

// notice is how whoever has a trigger's token gives its notice: a site's own
// page may, so that it is for every origin, and the token is taken from the
// query as well, where a browser's beacon can put it. It answers nothing that
// the caller did not know.
func (h *Handler) notice(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	q := r.URL.Query()
	token := q.Get("token")
	if bearer, ok := bytes.CutPrefix([]byte(r.Header.Get("Authorization")), []byte("Bearer ")); ok {
		token = string(bearer)
	}
	if err := h.Predictions.FireWith(hearth.Account(q.Get("account")), q.Get("name"), token); err != nil {
		h.fail(w, r, err)
		return
	}
	h.write(w, http.StatusOK, Fired{q.Get("name")})
}

// Learned tells what the systems that learn know of a function.
func (c *Client) Learned(ctx context.Context, function string) ([]Section, error) {
	l, err := get[LearnedOf](ctx, c, "/learned", about(function))
	return l.Sections, err
}

// Hint says that invocations are coming, and returns the hint's id. h.Account
// is not sent: it is the caller's.
func (c *Client) Hint(ctx context.Context, h Hint) (string, error) {
	v := url.Values{"function": {h.Function}, "count": {strconv.Itoa(h.Count)}, "at": {h.At.UTC().Format(time.RFC3339Nano)}, "for": {h.Until.Sub(h.At).String()}}
	set(v, "qualifier", h.Qualifier)
	got, err := send[Hinted](ctx, c, http.MethodPost, "/hint", v, nil)
	return got.ID, err
}

// Triggers are the account's.
func (c *Client) Triggers(ctx context.Context) ([]Trigger, error) {
	list, err := get[TriggerList](ctx, c, "/triggers", nil)
	return list.Triggers, err
}

// SetTrigger makes or replaces a trigger, and returns it with its token.
func (c *Client) SetTrigger(ctx context.Context, t Trigger) (Trigger, error) {
	body, err := json.Marshal(t)
	if err != nil {
		return t, err
	}
	return send[Trigger](ctx, c, http.MethodPost, "/triggers/set", nil, body)
}

// RemoveTrigger removes a trigger.
func (c *Client) RemoveTrigger(ctx context.Context, name string) error {
	_, err := send[Fired](ctx, c, http.MethodPost, "/triggers/remove", url.Values{"name": {name}}, nil)
	return err
}

// Fire says that a trigger from outside has come.
func (c *Client) Fire(ctx context.Context, name string) error {
	_, err := send[Fired](ctx, c, http.MethodPost, "/triggers/fire", url.Values{"name": {name}}, nil)
	return err
}
