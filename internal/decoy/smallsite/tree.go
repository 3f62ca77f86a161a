package smallsite

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// tree is the site as a file system in memory. Immutable, safe for concurrent use.
type tree struct{ nodes map[string]*entry }

// entry is a file or a directory, and its own FileInfo and DirEntry.
type entry struct {
	name    string
	body    []byte
	dir     bool
	entries []fs.DirEntry
	changed time.Time
}

func newTree(files []file) *tree {
	t := &tree{nodes: map[string]*entry{".": {name: ".", dir: true}}}
	for _, f := range files {
		e := &entry{name: path.Base(f.name), body: f.body, changed: f.changed}
		for at := f.name; at != "."; at = path.Dir(at) {
			if t.nodes[at] != nil {
				break
			}
			t.nodes[at] = e
			up := t.nodes[path.Dir(at)]
			if up == nil {
				up = &entry{name: path.Base(path.Dir(at)), dir: true}
			}
			up.entries = append(up.entries, e)
			if f.changed.After(up.changed) {
				up.changed = f.changed
			}
			e = up
		}
	}
	for _, e := range t.nodes {
		slices.SortFunc(e.entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	return t
}

func (t *tree) Open(name string) (fs.File, error) {
	e := t.nodes[name]
	if e == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if e.dir {
		return &openDir{entry: e, left: e.entries}, nil
	}
	return &openFile{entry: e, Reader: bytes.NewReader(e.body)}, nil
}

func (e *entry) Name() string               { return e.name }
func (e *entry) Size() int64                { return int64(len(e.body)) }
func (e *entry) ModTime() time.Time         { return e.changed }
func (e *entry) IsDir() bool                { return e.dir }
func (e *entry) Sys() any                   { return nil }
func (e *entry) Type() fs.FileMode          { return e.Mode().Type() }
func (e *entry) Info() (fs.FileInfo, error) { return e, nil }
func (e *entry) Stat() (fs.FileInfo, error) { return e, nil }
func (e *entry) Close() error               { return nil }
func (e *entry) Mode() fs.FileMode {
	if e.dir {
		return fs.ModeDir | 0o555
	}
	return 0o444
}

type openFile struct {
	*entry
	*bytes.Reader
}

// Size is of the entry: the reader has one of its own.
func (f *openFile) Size() int64 { return f.entry.Size() }

type openDir struct {
	*entry
	left []fs.DirEntry
}

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: fs.ErrInvalid}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.left)
	} else if len(d.left) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.left))
	got := slices.Clone(d.left[:n])
	d.left = d.left[n:]
	return got, nil
}
