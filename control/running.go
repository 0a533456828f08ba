package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	hearth "github.com/hearth-faas/hearth"
)

// Running says where the server of a data folder is found. The server writes
// it once it is ready and removes it when it ends; one that was killed leaves
// it behind, so that whoever reads it asks Alive.
type Running struct {
	PID      int    `json:"pid"`
	Endpoint string `json:"endpoint"` // such as http://127.0.0.1:9070
	// Public is where other machines reach it, such as https://hearth.example.com;
	// "" is that they don't, or that nothing tells by which name.
	Public  string         `json:"public,omitempty"`
	Account hearth.Account `json:"account"`
	Region  string         `json:"region"`
	Version string         `json:"version"`
	Started time.Time      `json:"started"`
}

// runningFile is its name in the data folder.
const runningFile = "server.json"

// HealthPath answers 200, unsigned, once a server is ready.
const HealthPath = "/healthz"

// WriteRunning leaves r in the data folder, whole or not at all.
func WriteRunning(dataDir string, r Running) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dataDir, runningFile)
	tmp, err := os.CreateTemp(dataDir, runningFile+".*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(data, '\n'))
	err = errors.Join(err, tmp.Chmod(0o600), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// RemoveRunning says that no server runs any more.
func RemoveRunning(dataDir string) error {
	err := os.Remove(filepath.Join(dataDir, runningFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ReadRunning reads what the last server left; an error that is
// fs.ErrNotExist means that none runs.
func ReadRunning(dataDir string) (Running, error) {
	path := filepath.Join(dataDir, runningFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return Running{}, err
	}
	var r Running
	if err := json.Unmarshal(data, &r); err != nil {
		return Running{}, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Alive asks the server whether it is there, and ready.
func (r Running) Alive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.Endpoint+HealthPath, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
