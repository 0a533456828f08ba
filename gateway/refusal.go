package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	hearth "github.com/hearth-faas/hearth"
)

// ErrFunction says that the function failed, or returned what cannot be a
// response. What it was is in the function's log; the client is not told.
var ErrFunction = errors.New("the function failed")

// forbidden turns what is wrong with a signature into the one answer that
// there is to it.
func forbidden(err error) error {
	if hearth.KindOf(err) == hearth.Service {
		return err
	}
	return &hearth.Error{Op: "gateway", Kind: hearth.AccessDenied, Message: "Forbidden", Err: err}
}

// refuse answers with an error: in plain words if the function failed, as a
// JSON object else.
func refuse(w http.ResponseWriter, err error) {
	header := w.Header()
	if errors.Is(err, ErrFunction) {
		header["Content-Type"] = []string{"application/json"}
		write(w, http.StatusBadGateway, []byte("Internal Server Error"))
		return
	}
	e := &hearth.Error{Kind: hearth.Service, Message: "Internal Server Error"}
	if his, ok := errors.AsType[*hearth.Error](err); ok && his.Kind.Status() != http.StatusInternalServerError {
		e = his
	}
	if e.Kind == hearth.AccessDenied && e.Message != "" { // who may what is not for everybody to know
		e = &hearth.Error{Kind: e.Kind, Message: "Forbidden"}
	}
	body := struct{ Message *string }{&e.Message}
	if e.Message == "" {
		body.Message = nil
	}
	b, jsonErr := json.Marshal(body)
	if jsonErr != nil {
		panic(jsonErr) // a string always has a JSON form
	}
	header["Content-Type"] = []string{"application/json"}
	header["X-Amzn-Errortype"] = []string{string(e.Kind)}
	write(w, e.Kind.Status(), b)
}

func write(w http.ResponseWriter, status int, body []byte) {
	w.Header()["Content-Length"] = []string{itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // whoever left needs no answer
}

// logError writes down the errors that are the server's.
func (g *Gateway) logError(q *request, err error) {
	if !errors.Is(err, ErrFunction) && hearth.KindOf(err).Status() >= http.StatusInternalServerError {
		g.Log.Error("request failed", "request", q.requestID, "url", q.ID, "error", err)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
