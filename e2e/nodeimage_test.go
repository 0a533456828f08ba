package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/static"
	ociTypes "github.com/google/go-containerregistry/pkg/v1/types"
)

// bareLayer is a layer of files, not compressed. A name that ends with a slash
// is a folder.
func bareLayer(t testing.TB, files map[string]string) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(text))}
		if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return static.NewLayer(b.Bytes(), ociTypes.OCIUncompressedLayer)
}

// nodeFiles are this machine's node, and the libraries that it needs.
func nodeFiles(t testing.TB) map[string]string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err == nil {
		node, err = filepath.EvalSymlinks(node)
	}
	if err != nil {
		t.Fatal(err)
	}
	needs, err := output(exec.Command("ldd", node))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	read := func(from, as string) {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(as, "/")] = string(b)
	}
	read(node, "/usr/bin/node")
	for _, lib := range regexp.MustCompile(`(?m)(/\S+) \(0x`).FindAllStringSubmatch(needs, -1) {
		read(lib[1], lib[1])
	}
	return files
}

// runtimeClient runs a handler by the Runtime API, as the interface clients do that
// people put into their images.
const runtimeClient = `

const [file, name] = process.env._HANDLER ? process.env._HANDLER.split('.') : process.argv[2].split('.');
const api = 'http://' + process.env.AWS_LAMBDA_RUNTIME_API + '/2018-06-01/runtime/';
const handler = (await import(process.cwd() + '/' + file + '.mjs'))[name];
for (;;) {
  const next = await fetch(api + 'invocation/next'), id = next.headers.get('lambda-runtime-aws-request-id');
  try {
    await fetch(api + 'invocation/' + id + '/response', { method: 'POST', body: JSON.stringify(await handler(await next.json())) });
  } catch (e) {
    await fetch(api + 'invocation/' + id + '/error', { method: 'POST', body: JSON.stringify({ errorType: e.name, errorMessage: e.message }) });
  }
}
`

const imagedHandler = `
import { readdirSync } from 'node:fs';
export const whole = async (e) => {
  if (e.fail) throw new RangeError('asked to');
  return { got: e, in: process.cwd(), node: process.version, extensions: readdirSync('/opt/extensions').sort() };
};
`

// nodeLayout is a folder with an image of node that says nothing of how it is
// started, with an extension in its root and one that an upper layer deletes.
var nodeLayout = struct {
	sync.Once
	dir string
}{}

func nodeImage(t testing.TB) string {
	t.Helper()
	nodeLayout.Do(func() {
		dir, err := os.MkdirTemp(scratch, "layout-")
		if err != nil {
			t.Fatal(err)
		}
		image := imageWith(t, v1.Config{Entrypoint: []string{"/nothing"}, Cmd: []string{"here"}},
			bareLayer(t, nodeFiles(t)),
			bareLayer(t, map[string]string{"opt/extensions/attendant": goProgram(t, "attendant"), "opt/extensions/gone": "not a program\n"}),
			bareLayer(t, map[string]string{"opt/extensions/.wh.gone": "", "srv/ric.mjs": runtimeClient, "srv/app/fn.mjs": imagedHandler}),
		)
		l, err := layout.Write(dir, empty.Index)
		if err == nil {
			err = l.AppendImage(image)
		}
		if err == nil { // other users read it, too
			err = filepath.WalkDir(dir, func(at string, _ fs.DirEntry, err error) error { return errors.Join(err, os.Chmod(at, 0o755)) })
		}
		if err != nil {
			t.Fatal(err)
		}
		nodeLayout.dir = dir
	})
	if nodeLayout.dir == "" {
		t.Fatal("the image could not be made")
	}
	return nodeLayout.dir
}

func TestARuntimeInterfaceClientRunsFromAnImageWithItsExtensions(t *testing.T) {
	t.Parallel()
	dir := nodeImage(t)
	for name, uid := range map[string]int{"as root": 0, "as an ordinary user": 1501} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home, err := os.MkdirTemp(scratch, "data-")
			if err == nil {
				err = chownAll(home, uid)
			}
			if err != nil {
				t.Fatal(err)
			}
			s := &images{startAs(t, home, func(cmd *exec.Cmd) {
				if uid != 0 {
					cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + home}
					cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
				}
			}, "--image-paths", dir), t.Context()}
			s.mustCreate("imaged", "oci://"+dir, func(in *lambda.CreateFunctionInput) {
				in.ImageConfig = &types.ImageConfig{EntryPoint: []string{"node", "/srv/ric.mjs"}, Command: []string{"fn.whole"}, WorkingDirectory: new("/srv/app")}
				in.MemorySize = new(int32(512))
			})
			for n := range 2 {
				a := s.mustInvoke("imaged", `{"n":1}`)
				for _, want := range []string{`"got":{"n":1}`, `"in":"/srv/app"`, `"node":"v`, `"extensions":["attendant"]`} {
					if !strings.Contains(a.payload, want) {
						t.Errorf("invocation %d: %s, not %s", n, a.payload, want)
					}
				}
			}
			if a, err := s.invoke("imaged", `{"fail":true}`); err != nil || a.functionError == "" || !strings.Contains(a.payload, `"errorType":"RangeError"`) {
				t.Errorf("a failure: %+v, %v", a, err)
			}
			s.logged("imaged",
				"EXTENSION\tName: attendant\tState: Ready\tEvents: [INVOKE, SHUTDOWN]",
				"attendant INVOKE arn:aws:lambda:us-east-1:000000000000:function:imaged",
			)
			if _, err := s.client().UpdateFunctionConfiguration(s.ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: new("imaged"), Description: new("other")}); err != nil {
				t.Fatal(err)
			}
			s.waitActive("imaged")
			s.logged("imaged", "attendant SHUTDOWN spindown")
			if _, err := s.client().DeleteFunction(s.ctx, &lambda.DeleteFunctionInput{FunctionName: new("imaged")}); err != nil {
				t.Fatal(err)
			}
		})
	}
}
