package main

import (
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
