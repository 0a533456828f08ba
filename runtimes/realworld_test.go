package runtimes

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// npmPackages are what the test functions depend on: the largest program that
// people put in handlers, and one with a deep tree of dependencies.
var npmPackages = []string{"typescript@5.9.3", "express@5.1.0"}

// npmFolder is a folder whose node_modules holds npmPackages, installed from
// the registry once and kept in the user's cache.
func npmFolder(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "hearth-test", "npm-"+strings.NewReplacer("@", "-", "/", "-").Replace(strings.Join(npmPackages, "_")))
	if _, err := os.Stat(filepath.Join(dir, "complete")); err == nil {
		return dir
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "npm-")
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"install", "--prefix", temp, "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"}, npmPackages...)
	if out, err := exec.Command("npm", args...).CombinedOutput(); err != nil {
		t.Fatalf("npm install, which needs npm and its registry: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(temp, "complete"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// npmFunction is a package with the npm packages beside its files.
func npmFunction(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := folder(t, files)
	if err := os.CopyFS(filepath.Join(dir, "node_modules"), os.DirFS(filepath.Join(npmFolder(t), "node_modules"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTypeScriptCompilesInAHandler(t *testing.T) {
	task := npmFunction(t, map[string]string{"index.js": `
const ts = require('typescript')
exports.handler = async (event) => ts.transpileModule(event.source, { compilerOptions: { target: 'es5' } }).outputText`})
	for _, c := range choices(t, Node) {
		ch := start(t, c, given{task: task, handler: "index.handler"})
		event, err := json.Marshal(map[string]string{"source": "const f = (x: number): string => `${x}`; export { f }"})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if a := ch.invoke(string(event)); !strings.Contains(a.String(), `return \"\".concat(x)`) {
				t.Fatalf("compiled to %s\n%s", a, ch.output.String())
			}
		}
	}
}

func TestExpressServesInAnESModuleHandler(t *testing.T) {
	task := npmFunction(t, map[string]string{"index.mjs": `
import express from 'express'
const app = express()
app.use(express.json())
app.post('/sum/:more', (req, res) => res.status(201).json({ sum: req.body.reduce((a, b) => a + b, Number(req.params.more)) }))
const server = await new Promise((ok) => { const s = app.listen(0, '127.0.0.1', () => ok(s)) })
export const handler = async (event) => {
  const r = await fetch('http://127.0.0.1:' + server.address().port + '/sum/4', { method: 'POST', body: JSON.stringify(event), headers: { 'content-type': 'application/json' } })
  return [r.status, await r.json()]
}`})
	for _, c := range choices(t, Node) {
		ch := start(t, c, given{task: task, handler: "index.handler"})
		for range 3 {
			if a := ch.invoke(`[1,2,3]`); a.String() != `[201,{"sum":10}]` {
				t.Fatalf("%s\n%s", a, ch.output.String())
			}
		}
	}
}
