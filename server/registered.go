package server

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"net/url"

	"github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/control"
	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll/objects"
	"github.com/hearth-faas/hearth/event/source"
)

// registeredSources is the control API's view of the registered event sources.
type registeredSources struct{ s *Server }

func (r registeredSources) shown(of *source.Source) control.EventSource {
	return control.EventSource{
		Name: of.Name, ARN: r.s.sources.ARN(of.Account, of.Name), URL: of.URL, Kind: string(of.Kind()), Secret: of.Sealed != nil, Modified: of.Modified,
	}
}

func (r registeredSources) List(_ context.Context, account hearth.Account) (list []control.EventSource, _ error) {
	for _, of := range r.s.sources.List(account) {
		list = append(list, r.shown(of))
	}
	return list, nil
}

// Add makes the token of an object store that was given none.
func (r registeredSources) Add(ctx context.Context, account hearth.Account, name, rawURL string, secret *string) (control.EventSource, error) {
	if u, err := url.Parse(rawURL); err == nil && u.Scheme == "file" {
		if err := r.s.mayReadHost(account, rawURL); err != nil {
			return control.EventSource{}, err
		}
	}
	var plain []byte
	if secret != nil {
		plain = []byte(*secret)
	}
	token := ""
	if old, err := r.s.sources.Get(account, name); len(plain) == 0 && isObjects(rawURL) && (err != nil || old.Sealed == nil || secret != nil) {
		token = rand.Text()
		plain = []byte(token)
	}
	made, err := r.s.sources.Add(ctx, account, name, rawURL, plain)
	if err != nil {
		return control.EventSource{}, err
	}
	shown := r.shown(made)
	shown.Token = token
	return shown, nil
}

func isObjects(rawURL string) bool { return (&source.Source{URL: rawURL}).Kind() == event.Objects }

func (r registeredSources) Remove(ctx context.Context, account hearth.Account, name string) error {
	return r.s.sources.Remove(ctx, account, name)
}

// Notify tells who has no token nothing, not even what sources there are.
func (r registeredSources) Notify(ctx context.Context, account hearth.Account, name, token string, body []byte) error {
	denied := hearth.Errorf(hearth.AccessDenied, "The token is of no event source with that account and name that takes notifications.")
	of, err := r.s.sources.Get(account, name)
	if err != nil || of.Kind() != event.Objects {
		return denied
	}
	want, err := r.s.sources.Secret(of)
	if err != nil {
		return err
	}
	if len(want) == 0 || subtle.ConstantTimeCompare(want, []byte(token)) != 1 {
		return denied
	}
	return objects.Accept(ctx, lateQueues(r), account, name, body)
}
