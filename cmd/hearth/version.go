package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/hearth-faas/hearth/control"
)

// version is set by the linker: -X main.version=….
var version string

// ownVersion is the release's version, or what the Go toolchain knows of a
// build without one.
func ownVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, and that of the running server",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				OS      string `json:"os"`
				Arch    string `json:"arch"`
				Server  string `json:"server,omitempty"`
			}{ownVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH, ""}
			// No server, or one that is another user's, is nothing to complain of.
			if r, err := control.ReadRunning(a.dataDir()); err == nil && r.Alive(cmd.Context()) {
				v.Server = r.Version
			}
			if a.json {
				return a.printJSON(v)
			}
			fmt.Fprintf(a.out, "hearth %s (%s, %s/%s)\n", v.Version, v.Go, v.OS, v.Arch)
			if v.Server != "" {
				fmt.Fprintf(a.out, "server %s\n", v.Server)
			}
			return nil
		},
	}
}
