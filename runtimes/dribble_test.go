package runtimes

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// oddity is a way of answering that HTTP allows and our own server never uses.
type oddity struct {
	name   string
	answer func(status, headers, body string) string
	byByte bool // one byte at a time
	close  bool // hang up after each answer
}

func plainAnswer(status, headers, body string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s", status, headers, len(body), body)
}

var oddities = []oddity{
	{name: "plain", answer: plainAnswer},
	{name: "byte by byte", answer: plainAnswer, byByte: true},
	{name: "hangs up", answer: plainAnswer, close: true},
	{name: "says close and hangs up", close: true, answer: func(status, headers, body string) string {
		return plainAnswer(status, headers+"Connection: close\r\n", body)
	}},
	{name: "interim answer", answer: func(status, headers, body string) string {
		return "HTTP/1.1 100 Continue\r\n\r\n" + plainAnswer(status, headers, body)
	}},
	{name: "chunks", answer: chunked},
	{name: "chunks byte by byte", answer: chunked, byByte: true},
	{name: "lower-case headers", answer: func(status, headers, body string) string {
		return plainAnswer(status, strings.ToLower(headers), body)
	}},
}

func chunked(status, headers, body string) string {
	out := fmt.Sprintf("HTTP/1.1 %s\r\n%sTransfer-Encoding: chunked\r\n\r\n", status, headers)
	for len(body) > 0 {
		n := min(3, len(body))
		out += fmt.Sprintf("%x;ext=1\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return out + "0\r\nTrailer: x\r\n\r\n"
}

// serveOddly gives a client events until it has answered enough of them, and
// returns the answers.
func serveOddly(l net.Listener, o oddity, events []string) ([]string, error) {
	var answers []string
	given := 0
	for {
		c, err := l.Accept()
		if err != nil {
			return answers, err
		}
		in := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(in)
			if err != nil {
				break // the client, or we, hung up
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return answers, err
			}
			var out string
			if req.Method == http.MethodPost {
				answers = append(answers, string(body))
				if len(answers) == len(events) {
					c.Close()
					return answers, nil
				}
				out = o.answer("202 Accepted", "Content-Type: application/json\r\n", `{"status":"OK"}`)
			} else {
				// An event whose connection we closed before it was answered
				// would be lost; hanging up comes after the answer was read.
				out = o.answer("200 OK", fmt.Sprintf("Lambda-Runtime-Aws-Request-Id: id-%d\r\nLambda-Runtime-Deadline-Ms: %d\r\n", given, time.Now().Add(time.Minute).UnixMilli()), events[given])
				given++
			}
			step := len(out)
			if o.byByte {
				step = 1
			}
			for i := 0; i < len(out); i += step {
				if _, err := io.WriteString(c, out[i:min(len(out), i+step)]); err != nil {
					return answers, err
				}
			}
			if o.close {
				break
			}
		}
		c.Close()
	}
}

func TestClientsUnderstandAllOfHTTP(t *testing.T) {
	events := []string{`{"a":"erste"}`, `{"a":"zweite ü"}`, `{"a":"` + strings.Repeat("x", 70) + `"}`}
	for _, c := range append(choices(t, Node)[:1], choices(t, Python)[:1]...) {
		for _, o := range oddities {
			t.Run(string(c.Boot())+"/"+o.name, func(t *testing.T) {
				t.Parallel()
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				g := trivial(c)
				script := map[Language][]string{Node: {"node/index.js"}, Python: {"-u", "-B", "-S", "python/bootstrap.py"}}[c.interpreter.Language]
				script[len(script)-1] = filepath.Join(laidOut, clientDir, script[len(script)-1])
				cmd := exec.Command(c.interpreter.Path, script...)
				cmd.Env = []string{
					"AWS_LAMBDA_RUNTIME_API=" + l.Addr().String(), "LAMBDA_TASK_ROOT=" + folder(t, g.files), "_HANDLER=" + g.handler,
				}
				var output syncBuffer
				cmd.Stdout, cmd.Stderr = &output, &output
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				watch := time.AfterFunc(time.Minute, func() { l.Close() })
				answers, err := serveOddly(l, o, events)
				watch.Stop()
				if err := cmd.Process.Kill(); err != nil {
					t.Log("it had ended:", err)
				}
				cmd.Wait()
				if err != nil {
					t.Fatalf("%v after %q\n%s", err, answers, output.String())
				}
				for i, a := range answers {
					a = strings.NewReplacer(`": "`, `":"`, `\u00fc`, "ü").Replace(a)
					if want := strings.Replace(events[i], `"a"`, `"ok"`, 1); a != want {
						t.Errorf("answer %d is %s, want %s", i, a, want)
					}
				}
			})
		}
	}
}
