// Probe acts from inside a container on behalf of the tests. Its first
// argument says what it does; each line of what it prints is a name and what
// came of it.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

func main() {
	if len(os.Args) < 2 {
		// The plain way: nothing but a first instruction.
		_, _ = syscall.Write(1, []byte("first instruction\n"))
		return
	}
	act, ok := acts[os.Args[1]]
	if !ok {
		fmt.Println("unknown act", os.Args[1])
		os.Exit(2)
	}
	act(os.Args[2:])
}

var acts = map[string]func([]string){
	"call":    callListener,
	"control": serveControl,
	"echo":    echo,
	"memory":  takeMemory,
	"read":    readFiles,
	"write":   writeFiles,
	"calls":   kernelCalls,
	"others":  processes,
	"connect": connects,
	"exhaust": exhaust,
	"leave":   leave,
	"seek":    seek,
	"who":     whoAmI,
	"hog":     hog,
	"watch":   watch,
	"disk":    useDisk,
	"share":   shareMemory,
}

// callListener sends a line to the runtime API's address and prints the
// answer.
func callListener([]string) {
	conn, err := net.Dial("tcp", "127.0.0.1:9001")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Fprintln(conn, "hello from inside")
	answer, _ := bufio.NewReader(conn).ReadString('\n')
	fmt.Print(answer)
}

// serveControl answers each line from the daemon with the content of a file of
// that name.
func serveControl([]string) {
	control := os.NewFile(3, "control")
	lines := bufio.NewScanner(control)
	for lines.Scan() {
		content, err := os.ReadFile(lines.Text())
		if err != nil {
			content = []byte(err.Error() + "\n")
		}
		_, _ = control.Write(content)
	}
}

// echo gives back what comes over the control socket.
func echo([]string) {
	control := os.NewFile(3, "control")
	_, _ = io.Copy(control, control)
}

// takeMemory takes and uses all memory that it can get.
func takeMemory([]string) {
	var all [][]byte
	for range 1 << 16 {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		all = append(all, block)
	}
	fmt.Println("took", len(all), "MiB")
}
