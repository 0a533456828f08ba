// Command attendant is an external extension that is written against the
// documented protocol, with the standard library alone: it notes each event,
// subscribes to telemetry by HTTP, and at its end says what it got.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"
)

var base = "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API")

func call(method, path string, body any, header map[string]string) (*http.Response, []byte) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	req, err := http.NewRequest(method, base+path, bytes.NewReader(text))
	if err != nil {
		panic(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(err)
	}
	if resp.StatusCode >= 300 {
		panic(fmt.Sprintf("%s %s: %s %s", method, path, resp.Status, answer))
	}
	return resp, answer
}

// seen counts what telemetry came, by type.
var seen = struct {
	sync.Mutex
	kinds map[string]int
}{kinds: map[string]int{}}

func main() {
	name := filepath.Base(os.Args[0])
	if os.Getenv("ATTENDANT") == "crash" {
		os.Exit(3)
	}
	resp, answer := call("POST", "/2020-01-01/extension/register", map[string]any{"events": []string{"INVOKE", "SHUTDOWN"}},
		map[string]string{"Lambda-Extension-Name": name, "Lambda-Extension-Accept-Feature": "accountId"})
	id := map[string]string{"Lambda-Extension-Identifier": resp.Header.Get("Lambda-Extension-Identifier")}
	fmt.Printf("%s registered: %s\n", name, strings.TrimSpace(string(answer)))

	l, err := net.Listen("tcp", "sandbox.localdomain:4244")
	if err != nil {
		panic(err)
	}
	go http.Serve(l, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var events []struct{ Type string }
		if err := json.NewDecoder(r.Body).Decode(&events); err != nil {
			panic(err)
		}
		seen.Lock()
		defer seen.Unlock()
		for _, e := range events {
			seen.kinds[strings.TrimPrefix(e.Type, "platform.")]++
		}
	}))
	call("PUT", "/2022-07-01/telemetry", map[string]any{
		"schemaVersion": "2022-12-13", "types": []string{"platform", "function", "extension"},
		"buffering":   map[string]int{"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
		"destination": map[string]string{"protocol": "HTTP", "URI": "http://sandbox.localdomain:4244"},
	}, id)
	for {
		var event struct {
			EventType, RequestID, InvokedFunctionArn, ShutdownReason string
			DeadlineMs                                               int64
		}
		_, answer := call("GET", "/2020-01-01/extension/event/next", nil, id)
		if err := json.Unmarshal(answer, &event); err != nil {
			panic(err)
		}
		fmt.Printf("%s %s %s%s\n", name, event.EventType, event.InvokedFunctionArn, event.ShutdownReason)
		if event.EventType != "SHUTDOWN" {
			continue
		}
		// What is still on its way, as long as there is time.
		for left := time.Until(time.UnixMilli(event.DeadlineMs)) - 500*time.Millisecond; left > 0 && count("report") == 0; left -= 10 * time.Millisecond {
			time.Sleep(10 * time.Millisecond)
		}
		seen.Lock()
		var kinds []string
		for k := range seen.kinds {
			kinds = append(kinds, k)
		}
		sort.Strings(kinds)
		fmt.Printf("%s saw %s\n", name, strings.Join(kinds, " "))
		return
	}
}

func count(kind string) int {
	seen.Lock()
	defer seen.Unlock()
	return seen.kinds[kind]
}
