//go:build !linux

package journal

// Sync flushes as far as the platform offers it.
func (f osFile) Sync() error { return f.File.Sync() }

// noSyncInKernel is of Linux.
func noSyncInKernel() error { return nil }

func (f osFile) Allocate(size int64) error { return zeroFill(f, size) }
