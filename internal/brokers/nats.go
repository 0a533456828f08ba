package brokers

import "strconv"

// NATS has JetStream, and syncs each message to disk only if its version can
// (2.9, Debian 12's, does every two minutes): what a kill of the process may
// lose there is nothing, what a power cut may is not tested.
var NATS = Kind{name: "nats", commands: func(b *Broker) ([]command, error) {
	args := []string{"--addr", "127.0.0.1", "--port", strconv.Itoa(b.port), "--jetstream", "--store_dir", b.dir}
	if b.Options.Password != "" {
		args = append(args, "--user", b.Options.User, "--pass", b.Options.Password)
	}
	if c := b.Options.TLS; c != nil {
		args = append(args, "--tls", "--tlscert", c.Cert, "--tlskey", c.Key)
	}
	return []command{{path: "nats-server", args: args, says: "Server is ready"}}, nil
}}
