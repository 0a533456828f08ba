// Package archive takes in the zip archives that functions are uploaded as.
//
// An archive comes from outside and is trusted in nothing: not in its sizes,
// names, links, offsets or counts. Inspect reads all of it and decides;
// Unpack decides again, and extracts under os.Root, so that even a wrong
// decision cannot write outside.
package archive

import (
	"archive/zip"
	"compress/flate"
	"context"
	"errors"
	"io"

	"github.com/hearth-faas/hearth"
)

// Limits bound an archive. Every field must be set.
type Limits struct {
	Zipped   int64 // bytes of the archive
	Unpacked int64 // bytes of the files in it
	Entries  int   // files, directories and links
}

// Lambda is the Lambda service's limits, and a limit of entries, which the
// service does not publish: it is several times what the largest of dependency
// trees below the other limits have. An archive from S3 may be as large as
// what is in it; one that comes with a request is bounded there.
var Lambda = Limits{Zipped: 262_144_000, Unpacked: 262_144_000, Entries: 200_000}

// Info is what an archive holds.
type Info struct {
	Files    int   // regular files
	Links    int   // symbolic links
	Unpacked int64 // bytes of all files
}

// Inspect reads the whole archive, decompressing each file to check its size
// and checksum, and writes nothing. Errors of kind InvalidParameter and
// EntityTooLarge carry the service's own messages; reading r may fail too,
// which is of kind Service. It takes about as long as unzip -t.
func Inspect(ctx context.Context, r io.ReaderAt, size int64, limits Limits) (Info, error) {
	p, err := newPlan(r, size, limits)
	if err != nil {
		return Info{}, err
	}
	buf := make([]byte, copySize)
	for _, e := range p.entries {
		if e.kind != file {
			continue
		}
		if err := copyEntry(ctx, io.Discard, e, buf); err != nil {
			return Info{}, err
		}
	}
	return p.info, nil
}

// copySize is the buffer through which files are decompressed.
const copySize = 64 << 10

// notZip is the service's answer to whatever is wrong with an archive. The
// cause is for the log.
func notZip(cause error) error {
	return &hearth.Error{
		Op: "archive", Kind: hearth.InvalidParameter, Err: cause,
		Message: "Could not unzip uploaded file. Please check your file, then try to upload again.",
	}
}

func refuse(why string) error { return notZip(errors.New(why)) }

// classify tells a broken archive from a source that cannot be read.
func classify(err error) error {
	if _, ok := errors.AsType[*hearth.Error](err); ok {
		return err
	}
	_, corrupt := errors.AsType[flate.CorruptInputError](err)
	for _, e := range []error{zip.ErrFormat, zip.ErrAlgorithm, zip.ErrChecksum, io.ErrUnexpectedEOF, io.EOF} {
		corrupt = corrupt || errors.Is(err, e)
	}
	if corrupt {
		return notZip(err)
	}
	return &hearth.Error{Op: "archive", Kind: hearth.Service, Message: "The code package cannot be read.", Err: err}
}

// copyEntry decompresses a file into w. What comes out must be exactly as
// long as the archive's directory says; archive/zip checks the checksum when
// it reaches the end.
func copyEntry(ctx context.Context, w io.Writer, e *entry, buf []byte) error {
	r, err := e.zip.Open()
	if err != nil {
		return classify(err)
	}
	defer r.Close()
	var n int64
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		got, err := r.Read(buf)
		if n += int64(got); n > e.size {
			return refuse("a file is longer than the directory says: " + e.name)
		}
		if _, err := w.Write(buf[:got]); err != nil {
			return err
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return classify(err)
		}
	}
	if n != e.size {
		return refuse("a file is shorter than the directory says: " + e.name)
	}
	return nil
}
