// Command bench measures Hearth against the floor of the same run, on the
// same machine, and prints the ratios that SPEC.md promises.
package main

import (
	"fmt"
	"os"
	"sort"
	"time"
)

func main() {
	if len(os.Args) > 1 && (os.Args[1] == floorEcho || os.Args[1] == floorProxy) {
		b := ""
		if len(os.Args) > 2 {
			b = os.Args[2]
		}
		if err := runFloor(os.Args[1], b); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	req := []byte("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1024\r\n\r\n")
	req = append(req, make([]byte, 1024)...)
	rc, err := dialRaw(os.Args[1], req)
	if err != nil {
		panic(err)
	}
	var d []time.Duration
	for range 20000 {
		t := time.Now()
		if err := rc.roundTrip(); err != nil {
			panic(err)
		}
		d = append(d, time.Since(t))
	}
	sort.Slice(d, func(i, j int) bool { return d[i] < d[j] })
	fmt.Println(d[len(d)/2], d[len(d)*99/100])
}
