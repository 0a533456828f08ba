package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
)

// The floor of a warm invocation is what any server in the middle must pay:
// one HTTP hop in, one HTTP hop on to a separate process that echoes. Both are
// this program again, started with one of these words, and both are what the
// standard library gives: body in, body out, and nothing else.
const (
	floorEcho  = "floor-echo"
	floorProxy = "floor-proxy"
)

// runFloor serves as the echo, or as the proxy in front of it, until its
// standard input is closed. It prints its address first.
func runFloor(role, backend string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with whoever started this
		os.Exit(0)
	}()
	if role == floorProxy {
		return http.Serve(l, proxy(backend))
	}
	return http.Serve(l, http.HandlerFunc(echo))
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer(w, body)
}

func proxy(backend string) http.HandlerFunc {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}}
	url := "http://" + backend + "/"
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		resp, err := client.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		body, err = io.ReadAll(resp.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		answer(w, body)
	}
}

func answer(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a client that went away is its own loss
}
