package brokers

import (
	"fmt"
	"strings"
	"syscall"
)

// RabbitMQ is one node. Erlang's nodes find one another by a daemon, epmd, of
// which the machine has one for all; a broker here has one of its own.
//
// It writes what it was told of queues to disk some time after it confirmed it:
// one that is killed may have forgotten a queue, with the messages in it. So Kill
// tells it to end.
var RabbitMQ = Kind{name: "rabbitmq", end: syscall.SIGTERM, commands: func(b *Broker) ([]command, error) {
	epmd, err := b.epmdPort()
	if err != nil {
		return nil, err
	}
	dist, err := freePort()
	if err != nil {
		return nil, err
	}
	var c strings.Builder
	listener := "listeners.tcp.local"
	if t := b.Options.TLS; t != nil {
		listener = "listeners.ssl.local"
		c.WriteString("listeners.tcp = none\n")
		fmt.Fprintf(&c, "ssl_options.certfile = %s\nssl_options.keyfile = %s\nssl_options.cacertfile = %s\nssl_options.verify = verify_none\n", t.Cert, t.Key, t.CA)
	}
	fmt.Fprintf(&c, "%s = 127.0.0.1:%d\n", listener, b.port)
	c.WriteString("log.console = true\nlog.console.level = info\nlog.file = false\n")
	if b.Options.Password != "" {
		fmt.Fprintf(&c, "default_user = %s\ndefault_pass = %s\n", b.Options.User, b.Options.Password)
	}
	conf, err := b.file("rabbitmq.conf", c.String())
	if err != nil {
		return nil, err
	}
	plugins, err := b.file("plugins", "[].\n")
	if err != nil {
		return nil, err
	}
	env := []string{
		"HOME=" + b.dir, "LANG=C.UTF-8",
		fmt.Sprintf("ERL_EPMD_PORT=%d", epmd), "ERL_EPMD_ADDRESS=127.0.0.1",
	}
	rabbit := append([]string{
		"RABBITMQ_NODENAME=hearth@localhost", "RABBITMQ_MNESIA_BASE=" + b.dir, "RABBITMQ_LOG_BASE=" + b.dir,
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", dist), "RABBITMQ_CONFIG_FILE=" + conf, "RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + plugins, "RABBITMQ_LOGS=-",
		// So that the shell of the script becomes the node itself, which can be
		// killed, and ends with us.
		"RABBITMQ_ALLOW_INPUT=1", "RABBITMQ_SERVER_START_ARGS=-noinput +sbwt none +sbwtdcpu none +sbwtdio none",
	}, env...)
	return []command{
		{path: "epmd", args: []string{"-d", "-d", "-address", "127.0.0.1", "-port", fmt.Sprint(epmd)}, env: env, says: "entering the main select() loop"},
		{path: "/usr/lib/rabbitmq/bin/rabbitmq-server", env: rabbit, says: "Server startup complete"},
	}, nil
}}

// epmdPort is the port of the broker's epmd, which stays when only the node is
// started again.
func (b *Broker) epmdPort() (int, error) {
	if len(b.procs) > 0 && !b.procs[0].gone() {
		return b.helper, nil
	}
	port, err := freePort()
	b.helper = port
	return port, err
}
