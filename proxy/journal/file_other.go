//go:build !linux

package journal

// Sync flushes as far as the platform offers it.
func (f osFile) Sync() error { return f.File.Sync() }

func (f osFile) Allocate(size int64) error { return zeroFill(f, size) }
