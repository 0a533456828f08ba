package brokers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Mosquitto keeps what it has for clients that are away and, when it is told to
// end, writes it to disk. One that is killed loses what it had acknowledged
// since it last did so, which it does not do for each message, whatever it is
// told; so here Kill tells it to end.
var Mosquitto = Kind{name: "mosquitto", end: syscall.SIGTERM, commands: func(b *Broker) ([]command, error) {
	var c strings.Builder
	fmt.Fprintf(&c, "listener %d 127.0.0.1\n", b.port)
	c.WriteString("user root\n") // or it becomes a user who can't read the folder; others' it leaves alone
	fmt.Fprintf(&c, "persistence true\npersistence_location %s/\n", b.dir)
	c.WriteString("log_dest stderr\nmax_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\n")
	if t := b.Options.TLS; t != nil {
		fmt.Fprintf(&c, "certfile %s\nkeyfile %s\n", t.Cert, t.Key)
	}
	if b.Options.Password != "" {
		path := filepath.Join(b.dir, "passwords")
		if out, err := exec.Command("mosquitto_passwd", "-c", "-b", path, b.Options.User, b.Options.Password).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("mosquitto_passwd: %w: %s", err, out)
		}
		fmt.Fprintf(&c, "allow_anonymous false\npassword_file %s\n", path)
	} else {
		c.WriteString("allow_anonymous true\n")
	}
	conf, err := b.file("mosquitto.conf", c.String())
	if err != nil {
		return nil, err
	}
	return []command{{path: "mosquitto", args: []string{"-c", conf}, says: " running"}}, nil
}}
