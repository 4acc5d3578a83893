package journal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// lockRoot keeps other processes from giving the same epoch; held only while one is given.
func lockRoot(root string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(root, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock journal: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock journal %s: %w", root, err)
	}
	return f, nil
}

// nextEpoch gives an epoch that is higher than every one before, and durable when it returns. It is at least the
// Unix time in seconds, so that a replica whose volume was lost does not repeat the identities of its former life.
func nextEpoch(cfg Config) (Epoch, error) {
	lock, err := lockRoot(cfg.Dir)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	path := filepath.Join(cfg.Dir, "epoch")
	last, err := readEpoch(path)
	if err != nil {
		return 0, err
	}
	list, err := epochs(cfg.Dir)
	if err != nil {
		return 0, err
	}
	for _, e := range list {
		last = max(last, e)
	}
	next := max(last+1, Epoch(max(0, cfg.Now().Unix())))
	return next, writeEpoch(cfg, path, next)
}

func readEpoch(path string) (Epoch, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read epoch: %w", err)
	}
	var n uint64
	var sum uint32
	if _, err := fmt.Sscanf(string(b), "epoch %d crc %x\n", &n, &sum); err != nil || sum != epochSum(n) {
		return 0, fmt.Errorf("epoch file %s is damaged (%q): remove it; the next epoch is then taken from the clock and from the generations beside it, so check that the clock is right",
			path, strings.TrimSpace(string(b[:min(len(b), 80)])))
	}
	return Epoch(n), nil
}

func epochSum(n uint64) uint32 { return crc32.Checksum(fmt.Appendf(nil, "%d", n), castagnoli) }

func writeEpoch(cfg Config, path string, e Epoch) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write epoch: %w", err)
	}
	_, err = fmt.Fprintf(f, "epoch %d crc %08x\n", uint64(e), epochSum(uint64(e)))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = cfg.fs.SyncDir(cfg.Dir)
	}
	if err != nil {
		return fmt.Errorf("write epoch: %w", err)
	}
	return nil
}
