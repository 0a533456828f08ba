package brokers

import (
	"strconv"
)

// Redis keeps all that it acknowledged: it writes its log to disk at each
// change.
var Redis = Kind{name: "redis", commands: func(b *Broker) ([]command, error) {
	port := strconv.Itoa(b.port)
	args := []string{"--bind", "127.0.0.1", "--dir", b.dir, "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--enable-debug-command", "yes"}
	if c := b.Options.TLS; c != nil {
		args = append(args, "--port", "0", "--tls-port", port, "--tls-cert-file", c.Cert, "--tls-key-file", c.Key, "--tls-ca-cert-file", c.CA, "--tls-auth-clients", "no")
	} else {
		args = append(args, "--port", port)
	}
	if b.Options.Password != "" {
		if b.Options.User != "" {
			args = append(args, "--user", b.Options.User, "on", ">"+b.Options.Password, "~*", "&*", "+@all", "--user", "default", "off")
		} else {
			args = append(args, "--requirepass", b.Options.Password)
		}
	}
	return []command{{path: "redis-server", args: args, says: "Ready to accept connections"}}, nil
}}
