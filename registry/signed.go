package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/hearth-faas/hearth"
)

// signingConfig is the ARN of the function's code signing configuration.
func (v *view) signingConfig() string {
	if v == nil || v.settings[""] == nil {
		return ""
	}
	return v.settings[""].CodeSigningConfig
}

func (r *Registry) signingConfigOf(k key) string { return r.view(k).signingConfig() }

// verify checks the signatures of f's new code and of its layers by the
// configuration, and notes in f who signed the code.
func (r *Registry) verify(ctx context.Context, f *hearth.Function, config string, zip []byte) (err error) {
	f.SigningProfileVersionARN, f.SigningJobARN = "", ""
	if config == "" {
		return nil
	}
	f.SigningProfileVersionARN, f.SigningJobARN, err = r.cfg.Verify(ctx, f.Account, config, f.Name, bytes.NewReader(zip), int64(len(zip)))
	if err != nil {
		return err
	}
	return r.verifyLayers(ctx, f.Account, config, f.Layers)
}

func (r *Registry) verifyLayers(ctx context.Context, account hearth.Account, config string, layers []hearth.Layer) error {
	if config == "" {
		return nil
	}
	for _, l := range layers {
		if err := r.verifyLayer(ctx, account, config, l); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) verifyLayer(ctx context.Context, account hearth.Account, config string, l hearth.Layer) error {
	b, size, err := r.OpenPackage(ctx, l.Package.SHA256)
	if err != nil {
		return err
	}
	defer b.Close()
	at, ok := b.(io.ReaderAt)
	if !ok {
		return fmt.Errorf("registry: the store's blobs cannot be read at random")
	}
	_, _, err = r.cfg.Verify(ctx, account, config, l.ARN, at, size)
	return err
}
