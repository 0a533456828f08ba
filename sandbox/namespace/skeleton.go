package namespace

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/hearth-faas/hearth/sandbox"
	"github.com/hearth-faas/hearth/sandbox/namespace/message"
)

// skeletonDir is the uppermost layer of every image: what the driver puts over
// an image's own, whatever that has there.
func skeletonDir(dataDir string) string { return filepath.Join(sandboxDir(dataDir), "skeleton") }

// makeSkeleton makes it anew: the mount points of what stays of the base, and
// the files that tell of the network.
func makeSkeleton(dataDir string, network sandbox.Network) error {
	top := skeletonDir(dataDir)
	if err := os.RemoveAll(top); err != nil {
		return fmt.Errorf("namespace: %w", err)
	}
	for _, dir := range []string{"", "dev", "etc", "proc", "tmp"} {
		path := filepath.Join(top, dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("namespace: %w", err)
		}
		if err := os.Chmod(path, 0o755); err != nil { // whatever the umask
			return fmt.Errorf("namespace: %w", err)
		}
	}
	resolv := ""
	if network != nil {
		if dns := network.Guest().DNS; dns.IsValid() {
			resolv = "nameserver " + dns.String() + "\noptions timeout:2 attempts:2\n"
		}
	}
	for name, content := range map[string]string{
		"hosts":       message.Hosts,
		"hostname":    "sandbox\n",
		"resolv.conf": resolv,
	} {
		path := filepath.Join(top, "etc", name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return fmt.Errorf("namespace: %w", err)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			return fmt.Errorf("namespace: %w", err)
		}
	}
	return nil
}
