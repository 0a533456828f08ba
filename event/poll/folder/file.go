package folder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-faas/hearth/event/poll"
)

// MaxContent bounds a file whose content is in its record, in bytes.
const MaxContent = 4 << 20

// version is a file as it was at a time. The names are those on disk.
type version struct {
	Path  string `json:"path"` // below the folder
	Inode uint64 `json:"inode"`
	Size  int64  `json:"size"`
	Time  int64  `json:"time"` // of its last change, in nanoseconds since 1970
}

func versionOf(path string, info fs.FileInfo) version {
	v := version{Path: path, Size: info.Size(), Time: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		v.Inode = st.Ino
	}
	return v
}

// id is the same for the same file in the same state.
func (v version) id() string {
	return fmt.Sprintf("%s@%x-%x-%x", strings.ToValidUTF8(v.Path, "\uFFFD"), v.Inode, v.Time, v.Size)
}

// entry is a file's record in an event: that of an S3 event, so that a function
// that reads those reads these, and more about the file.
type entry struct {
	Version string         `json:"eventVersion"`
	Source  string         `json:"eventSource"`
	ARN     string         `json:"eventSourceARN,omitempty"`
	Region  string         `json:"awsRegion"`
	Time    string         `json:"eventTime"`
	Name    string         `json:"eventName"`
	S3      map[string]any `json:"s3"`
	File    fileInfo       `json:"file"`
}

type fileInfo struct {
	Path    string  `json:"path"` // on the server
	Content *[]byte `json:"content,omitempty"`
	Problem string  `json:"problem,omitempty"` // why its content is not here
}

// record is the record of the file at path, or nil if it is no file any more or
// was processed as it is.
func (f *Folder) record(ctx context.Context, path string) (*poll.Record, error) {
	full := filepath.Join(f.cfg.Dir, path)
	file, err := os.OpenFile(full, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ELOOP):
		return nil, nil
	}
	unreadable := err
	var info fs.FileInfo
	if err == nil {
		defer file.Close()
		info, err = file.Stat()
	} else {
		info, err = os.Lstat(full)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, nil
	}
	v := versionOf(path, info)
	if known, err := f.cfg.Ledger.knows(ctx, v); known || err != nil {
		return nil, err
	}
	e := entry{
		Version: "2.1", Source: "hearth:folder", Region: f.cfg.Region,
		Time: info.ModTime().UTC().Format("2006-01-02T15:04:05.000Z"), Name: "ObjectCreated:Put",
		S3: map[string]any{
			"s3SchemaVersion": "1.0", "configurationId": f.cfg.Name,
			"bucket": map[string]any{"name": f.cfg.Name, "arn": "arn:aws:s3:::" + f.cfg.Name, "ownerIdentity": map[string]string{"principalId": ""}},
			"object": map[string]any{
				"key": strings.ReplaceAll(url.QueryEscape(path), "%2F", "/"), "size": v.Size, "versionId": "", "sequencer": fmt.Sprintf("%016X", v.Time),
			},
		},
		File: fileInfo{Path: strings.ToValidUTF8(full, "\uFFFD")},
	}
	if f.cfg.Content {
		e.File.Content, err = contentOf(file, unreadable)
		if err != nil {
			e.File.Problem = err.Error() // its function may know what to do
		}
	}
	body, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return &poll.Record{ID: v.id(), Body: body, Group: path, Sent: info.ModTime(), Handle: v}, nil
}

// contentOf is what is in a file that could be opened.
func contentOf(file *os.File, unreadable error) (*[]byte, error) {
	if unreadable != nil {
		return nil, unreadable
	}
	content, err := io.ReadAll(io.LimitReader(file, MaxContent+1))
	switch {
	case err != nil:
		return nil, err
	case len(content) > MaxContent:
		return nil, fmt.Errorf("it has more than %d bytes", MaxContent)
	}
	return &content, nil
}

// settled is how long a file that may not be asked about must not have changed.
const settled = 2 * time.Second

// beingWritten tells whether somebody has the file open for writing: then the
// kernel refuses a lease. Of a file that is not ours to have one of, only its
// age tells; it is asked again by the watch when it is closed.
func beingWritten(path string) (bool, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrPermission) {
		return false, nil // its record says so
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	_, err = unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	switch {
	case err == nil:
		_, err = unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		return false, err
	case errors.Is(err, unix.EAGAIN):
		return true, nil
	}
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	age := time.Since(info.ModTime())
	return age >= 0 && age < settled, nil
}
