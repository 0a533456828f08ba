package main

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/hearth-faas/hearth/server"
)

func TestAFolderCanBeNamedFromWhereOneStands(t *testing.T) {
	a := &app{data: "./hearth", getenv: func(string) string { return "" }}
	cfg := server.DefaultConfig()
	cfg.DataDir, cfg.MasterKeyFile = a.dataDir(), a.masterKey("")
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

// Which of its addresses a server can't listen on, and by which flag it has
// another, is said.
func TestAStartThatFailsNamesTheAddress(t *testing.T) {
	cfg := server.DefaultConfig()
	cfg.Listen, cfg.TLSListen, cfg.Nodes = "127.0.0.1:9070", "127.0.0.1:9443", "127.0.0.1:9090"
	for flag, address := range map[string]string{"--listen": cfg.Listen, "--tls-listen": cfg.TLSListen, "--nodes": cfg.Nodes} {
		at, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		told, ok := errors.AsType[*failure](startFailure(cfg, &net.OpError{Op: "listen", Net: "tcp", Addr: at, Err: syscall.EADDRINUSE}))
		if !ok || !strings.Contains(told.Error(), address) || !strings.Contains(told.way, "another with "+flag+";") {
			t.Errorf("%s: %v %+v", address, ok, told)
		}
	}
}
