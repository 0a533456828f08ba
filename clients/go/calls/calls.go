// Package calls is call now, await later, for functions that run in Hearth: a
// call runs when the machine has capacity to spare, and in time for when the
// code will ask for its answer, which Hearth learns from earlier runs. It is one
// file, to copy.
package calls

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

// Call is a call that was made. Safe for concurrent use.
type Call struct {
	ID    string `json:"id"`    // the request id that its run has
	State string `json:"state"` // queued or running, when it was made
	Why   string `json:"why"`
}

// Options of a call. The zero value has Hearth learn when the answer is needed.
type Options struct {
	Qualifier string
	NeedIn    time.Duration // when the answer will be needed; 0 is learned
}

// Make calls a function of the account with the event as JSON.
func Make(ctx context.Context, function string, event any, o Options) (*Call, error) {
	body, err := json.Marshal(event)
	if err != nil {
		return nil, err
	}
	q := url.Values{"function": {function}, "qualifier": {o.Qualifier}}
	if o.NeedIn > 0 {
		q.Set("needIn", strconv.FormatFloat(o.NeedIn.Seconds(), 'f', -1, 64))
	}
	_, answer, _, err := ask(ctx, http.MethodPost, "?"+q.Encode(), body)
	if err != nil {
		return nil, err
	}
	c := new(Call)
	return c, json.Unmarshal(answer, c)
}

// Done tells whether the answer is there, after wait at most. The call stays as
// urgent as it was.
func (c *Call) Done(ctx context.Context, wait time.Duration) (bool, error) {
	status, _, _, err := ask(ctx, http.MethodGet, fmt.Sprintf("/%s?need=false&wait=%g", c.ID, wait.Seconds()), nil)
	return status == http.StatusOK, err
}

// Result reads the answer into the value that into points to. A call that still
// waits is run at once.
func (c *Call) Result(ctx context.Context, into any) error {
	for {
		status, body, failed, err := ask(ctx, http.MethodGet, "/"+c.ID+"?wait=30", nil)
		switch {
		case err != nil:
			return err
		case status == http.StatusOK && failed != "":
			return fmt.Errorf("the function failed: %s", body)
		case status == http.StatusOK:
			return json.Unmarshal(body, into)
		}
	}
}

func ask(ctx context.Context, method, path string, body []byte) (status int, answer []byte, failed string, err error) {
	r, err := http.NewRequestWithContext(ctx, method, os.Getenv("AWS_ENDPOINT_URL")+"/_hearth/v1/calls"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	r.Header.Set("X-Hearth-Call", "1")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close() // read to its end
	if answer, err = io.ReadAll(resp.Body); err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return resp.StatusCode, answer, resp.Header.Get("X-Amz-Function-Error"), err
}
