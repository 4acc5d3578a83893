package fastcgi

import (
	"fmt"
	"io"
	"os"
)

// spool is a request's body in a file that no directory lists, so that it is gone with the process.
type spool struct {
	f    *os.File
	size int64
}

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "banyan-body-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return &spool{f: f}, nil
}

func (s *spool) write(b []byte) error {
	n, err := s.f.Write(b)
	s.size += int64(n)
	return err
}

// each gives the pieces of the body; the last one, perhaps empty, is told to be it.
func (s *spool) each(send func(b []byte, last bool) error) error {
	buf := make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := s.f.ReadAt(buf, at)
		at += int64(n)
		if err != nil && err != io.EOF {
			return fmt.Errorf("read the stored body: %w", err)
		}
		if err := send(buf[:n], at == s.size); err != nil || at == s.size {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
	}
}

func (s *spool) close() { s.f.Close() }
