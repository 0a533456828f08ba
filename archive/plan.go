package archive

import (
	"archive/zip"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/hearth-faas/hearth"
)

// kind is what an entry becomes.
type kind int

const (
	directory kind = iota
	file
	link
)

// entry is one entry of an archive that was found harmless.
type entry struct {
	zip    *zip.File
	name   string // clean, relative, with slashes
	kind   kind
	size   int64
	target string // of a link
}

// plan is what extracting an archive will do.
type plan struct {
	entries []*entry // in the archive's order
	info    Info
}

// maxRatio is a little above the most that deflate can compress by, 1032
// to 1: whoever declares more lies.
const maxRatio = 1040

// newPlan reads the archive's directory and its links, and refuses what must
// not be extracted.
func newPlan(r io.ReaderAt, size int64, limits Limits) (*plan, error) {
	if size > limits.Zipped {
		return nil, &hearth.Error{Op: "archive", Kind: hearth.EntityTooLarge, Message: fmt.Sprintf("Zipped size must be smaller than %d bytes", limits.Zipped)}
	}
	z, err := openZip(r, size, limits)
	if err != nil {
		return nil, classify(err)
	}
	p := &plan{}
	var extents []extent
	kinds := map[string]kind{} // of all names, also of the directories that they imply
	for _, f := range z.File {
		e, err := check(f, size)
		if err != nil {
			return nil, err
		}
		if e == nil { // the tree's own root
			continue
		}
		// The sum of what is declared. Each file is held to what it declares
		// when it is read, so this bounds the real size too.
		if p.info.Unpacked += e.size; p.info.Unpacked > limits.Unpacked {
			return nil, &hearth.Error{Op: "archive", Kind: hearth.InvalidParameter, Message: fmt.Sprintf("Unzipped size must be smaller than %d bytes", limits.Unpacked)}
		}
		if err := claim(kinds, e); err != nil {
			return nil, err
		}
		// Directories that are only implied count too: a name of 4 KiB can
		// stand for two thousand of them.
		if len(kinds) > limits.Entries {
			return nil, refuse(fmt.Sprintf("over %d files and directories", limits.Entries))
		}
		switch e.kind {
		case file:
			p.info.Files++
		case link:
			p.info.Links++
		}
		begin, err := f.DataOffset()
		if err != nil {
			return nil, classify(err)
		}
		extents = append(extents, extent{begin, begin + int64(f.CompressedSize64)})
		p.entries = append(p.entries, e)
	}
	if p.info.Files == 0 {
		return nil, &hearth.Error{Op: "archive", Kind: hearth.InvalidParameter, Message: "Uploaded file must be a non-empty zip"}
	}
	// Entries that share their bytes make a small archive large without an
	// uncommon ratio anywhere.
	slices.SortFunc(extents, func(a, b extent) int { return cmp.Compare(a.begin, b.begin) })
	for i, x := range extents {
		if x.end > size || i > 0 && x.begin < extents[i-1].end {
			return nil, refuse("entries overlap, or reach over the archive's end")
		}
	}
	return p, p.checkLinks()
}

// extent is where an entry's bytes are.
type extent struct{ begin, end int64 }

// openZip reads the directory. archive/zip believes no count in the archive:
// it reads headers until one is none, and so many are bounded here, by the
// bytes that reading them may take.
func openZip(r io.ReaderAt, size int64, limits Limits) (*zip.Reader, error) {
	// A header is 46 bytes and its name; 64 KiB and a bit are read to find
	// the directory.
	const header, search = 46 + 82, 256 << 10
	b := &budget{r: r, size: size, left: int64(limits.Entries)*header + search}
	z, err := zip.NewReader(b, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names are judged in check
		return nil, err
	}
	b.left = math.MaxInt64
	if len(z.File) > limits.Entries {
		return nil, refuse(fmt.Sprintf("%d entries", len(z.File)))
	}
	return z, nil
}

// budget is a ReaderAt that gives so many bytes and no more, and only those
// that there are: offsets come from the archive.
type budget struct {
	r          io.ReaderAt
	size, left int64
}

func (b *budget) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > b.size {
		return 0, zip.ErrFormat
	}
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, refuse("a directory of too many bytes")
	}
	return b.r.ReadAt(p, off)
}

// check judges an entry by itself. It returns nil for an entry that is the
// root of the tree.
func check(f *zip.File, size int64) (*entry, error) {
	name, err := cleanName(f)
	if err != nil || name == "" {
		return nil, err
	}
	e := &entry{zip: f, name: name}
	switch mode := f.Mode(); {
	case strings.HasSuffix(f.Name, "/") || mode.IsDir():
		e.kind = directory
	case mode&fs.ModeSymlink != 0:
		e.kind = link
	case mode.IsRegular():
		e.kind = file
	default:
		return nil, refuse("neither file, directory nor link: " + name)
	}
	const encrypted = 1 << 0
	switch {
	case f.Flags&encrypted != 0:
		return nil, refuse("encrypted: " + name)
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return nil, refuse(fmt.Sprintf("compression method %d: %s", f.Method, name))
	case f.CompressedSize64 > uint64(size), f.UncompressedSize64 > math.MaxInt64/2,
		f.Method == zip.Store && f.UncompressedSize64 != f.CompressedSize64,
		f.UncompressedSize64 > (f.CompressedSize64+1)*maxRatio:
		return nil, refuse(fmt.Sprintf("%d bytes that are to become %d: %s", f.CompressedSize64, f.UncompressedSize64, name))
	case e.kind == directory && f.UncompressedSize64 != 0:
		return nil, refuse("a directory with content: " + name)
	}
	if e.kind == file {
		e.size = int64(f.UncompressedSize64)
	}
	if e.kind == link {
		return e, e.readTarget()
	}
	return e, nil
}

// Limits of Linux for the parts and the whole of a path.
const (
	maxPart = 255
	maxPath = 4095
)

// cleanName gives an entry's name without ./ and doubled slashes, and "" for
// the root itself.
func cleanName(f *zip.File) (string, error) {
	name := f.Name
	// Some Windows tools write backslashes, against the format; for entries
	// made elsewhere a backslash is a character like others.
	const fat, ntfs, vfat = 0, 10, 14
	if maker := f.CreatorVersion >> 8; maker == fat || maker == ntfs || maker == vfat {
		name = strings.ReplaceAll(name, `\`, "/")
	}
	if strings.HasPrefix(name, "/") || strings.ContainsRune(name, 0) || name == "" {
		return "", refuse(fmt.Sprintf("the name %.80q", f.Name))
	}
	parts := strings.Split(name, "/")
	parts = slices.DeleteFunc(parts, func(part string) bool { return part == "" || part == "." })
	for _, part := range parts {
		if part == ".." || len(part) > maxPart {
			return "", refuse(fmt.Sprintf("the name %.80q", f.Name))
		}
	}
	clean := strings.Join(parts, "/")
	if len(clean) > maxPath {
		return "", refuse(fmt.Sprintf("a name of %d bytes", len(clean)))
	}
	return clean, nil
}

// claim takes the entry's name, and those of the directories above it. Two
// entries of one name are refused unless both are directories: which one won
// would depend on the tool.
func claim(kinds map[string]kind, e *entry) error {
	if was, taken := kinds[e.name]; taken && (was != directory || e.kind != directory) {
		return refuse("a name used twice: " + e.name)
	}
	kinds[e.name] = e.kind
	for dir := e.name; ; {
		i := strings.LastIndexByte(dir, '/')
		if i < 0 {
			return nil
		}
		dir = dir[:i]
		was, taken := kinds[dir]
		if taken && was != directory {
			return refuse("a file and a directory of one name: " + dir)
		}
		if taken {
			return nil // so are those above it
		}
		kinds[dir] = directory
	}
}

// readTarget reads where a link points.
func (e *entry) readTarget() error {
	if e.zip.UncompressedSize64 == 0 || e.zip.UncompressedSize64 > maxPath {
		return refuse("a link's target: " + e.name)
	}
	r, err := e.zip.Open()
	if err != nil {
		return classify(err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxPath+1))
	if err != nil {
		return classify(err)
	}
	e.target = string(b)
	if strings.HasPrefix(e.target, "/") || strings.ContainsRune(e.target, 0) || len(b) > maxPath {
		return refuse("a link's target: " + e.name)
	}
	return nil
}

// maxHops is how many links a path may go through, as on Linux. maxWork
// bounds what following all links of an archive may cost, in bytes of path
// looked at: links to links can be made to cost any amount.
const (
	maxHops = 40
	maxWork = 64 << 20
)

// checkLinks follows every link, through the other links, as a kernel would,
// and refuses one that leaves the tree on the way or never ends. One that
// points to nothing inside of the tree is harmless.
func (p *plan) checkLinks() error {
	if p.info.Links == 0 {
		return nil
	}
	links := map[string]string{}
	for _, e := range p.entries {
		if e.kind == link {
			links[e.name] = e.target
		}
	}
	work := 0
	for name, target := range links {
		at := strings.Split(name, "/")
		if !inside(links, at[:len(at)-1], target, &work) {
			return refuse("a link that leaves the tree, or never ends: " + name)
		}
	}
	return nil
}

// inside walks path from the directory dir and tells whether every step stays
// in the tree. It adds what that cost to work, and gives up at maxWork.
func inside(links map[string]string, dir []string, path string, work *int) bool {
	at := slices.Clone(dir)
	todo := strings.Split(path, "/")
	for hops := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(at) == 0 {
				return false
			}
			at = at[:len(at)-1]
			continue
		}
		if len(part) > maxPart {
			return false
		}
		at = append(at, part)
		full := strings.Join(at, "/")
		if *work += len(full); len(full) > maxPath || *work > maxWork {
			return false
		}
		target, isLink := links[full]
		if !isLink {
			continue
		}
		if hops++; hops > maxHops {
			return false
		}
		at = at[:len(at)-1]
		todo = append(strings.Split(target, "/"), todo...)
	}
	return true
}
