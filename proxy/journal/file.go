package journal

import (
	"fmt"
	"io"
	"os"
)

// file is what the journal asks of a segment; tests put faults behind it.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error               // of the data and of what is needed to read it back
	Allocate(size int64) error // real room, reading as zeros; the file then has this size
	Size() (int64, error)
	Rename(from, to string) error // within its directory
}

type fsys interface {
	Create(path string) (file, error) // must not exist
	Open(path string) (file, error)
	SyncDir(path string) error
}

type osFS struct{}

type osFile struct{ *os.File }

func (osFS) Create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Open(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", path, err)
	}
	return nil
}

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Rename gives the file another name; Name stays what it was.
func (f osFile) Rename(from, to string) error { return os.Rename(from, to) }

// zeroFill allocates by writing, where the file system cannot do it by itself.
func zeroFill(f io.WriterAt, size int64) error {
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}
