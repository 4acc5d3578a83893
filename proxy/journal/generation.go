package journal

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	segmentSuffix = ".seg"
	lockName      = "lock"
	ackName       = "acked"
)

// segment is one file of a generation.
type segment struct {
	header
	path string
	f    file
	size int64
	end  int64 // records up to here are on the disk; final if a later segment exists
	born time.Time

	orphan bool // the segment before it is missing, though this is not the first
}

// generation is the directory of one epoch, locked by this process.
type generation struct {
	cfg   Config
	epoch Epoch
	dir   string
	lock  *os.File
	acked *ackFile
	used  *usage
	freed func() // called when room was made, if set

	mu    sync.Mutex // guards what follows
	segs  []*segment // oldest first
	spare *segment   // whose file is to be used again, or nil
	ended bool       // nothing more will be appended
	wake  chan struct{}
}

// usage is the number of bytes that this process has allocated in one root.
type usage struct {
	mu    sync.Mutex
	bytes int64
	quota int64
}

var errQuota = errors.New("quota reached")

func (u *usage) take(n int64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bytes+n > u.quota {
		return fmt.Errorf("%d bytes in segments, quota %d: %w", u.bytes, u.quota, errQuota)
	}
	u.bytes += n
	return nil
}

// add counts what is already there, or was removed (n < 0).
func (u *usage) add(n int64) {
	u.mu.Lock()
	u.bytes += n
	u.mu.Unlock()
}

func dirName(e Epoch) string { return fmt.Sprintf("%020d", uint64(e)) }

func segmentName(n uint64) string { return fmt.Sprintf("%012d%s", n, segmentSuffix) }

// lockGeneration takes ownership of a directory, or says ErrOwned. The lock goes with the process, however it ends.
func lockGeneration(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock generation: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", dir, ErrOwned)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// The owner before us may have shipped and removed the directory between our open and our lock.
	mine, err1 := f.Stat()
	there, err2 := os.Stat(path)
	if err := errors.Join(err1, err2); err != nil || !os.SameFile(mine, there) {
		f.Close()
		return nil, fmt.Errorf("%s: removed meanwhile: %w", dir, os.ErrNotExist)
	}
	return f, nil
}

// newGeneration makes and locks the directory of a new epoch.
func newGeneration(cfg Config, e Epoch, used *usage) (*generation, error) {
	dir := filepath.Join(cfg.Dir, dirName(e))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("new generation: %w", err)
	}
	g, err := openGeneration(cfg, e, used)
	if err != nil {
		return nil, err
	}
	return g, cfg.fs.SyncDir(cfg.Dir)
}

// openGeneration locks a directory and opens its ack file, nothing else.
func openGeneration(cfg Config, e Epoch, used *usage) (*generation, error) {
	dir := filepath.Join(cfg.Dir, dirName(e))
	lock, err := lockGeneration(dir)
	if err != nil {
		return nil, err
	}
	acked, err := openAck(filepath.Join(dir, ackName))
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &generation{cfg: cfg, epoch: e, dir: dir, lock: lock, acked: acked, used: used, wake: make(chan struct{}, 1)}, nil
}

// epochs lists the generations below a root, oldest first.
func epochs(root string) ([]Epoch, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("list journal: %w", err)
	}
	var list []Epoch
	for _, e := range entries {
		n, err := strconv.ParseUint(e.Name(), 10, 64)
		if err == nil && e.IsDir() && e.Name() == dirName(Epoch(n)) {
			list = append(list, Epoch(n))
		}
	}
	return list, nil
}

// listSegments gives the segment files of a directory by number.
func listSegments(dir string) ([]*segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list generation: %w", err)
	}
	var list []*segment
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		n, err := strconv.ParseUint(name, 10, 64)
		if ok && err == nil {
			list = append(list, &segment{header: header{number: n}, path: filepath.Join(dir, e.Name())})
		}
	}
	slices.SortFunc(list, func(a, b *segment) int { return cmp.Compare(a.number, b.number) })
	return list, nil
}

// create allocates a segment and writes its header; the caller syncs the file. Its directory entry is on the disk. Where
// there is no room, that of the spare file is given up.
func (g *generation) create(h header) (*segment, error) {
	s, err := g.allocate(h)
	if err != nil && g.dropSpare() {
		s, err = g.allocate(h)
	}
	return s, err
}

func (g *generation) allocate(h header) (s *segment, err error) {
	path := filepath.Join(g.dir, segmentName(h.number))
	if err := g.used.take(g.cfg.SegmentSize); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // left by an attempt that failed
		g.used.add(-g.cfg.SegmentSize)
		return nil, fmt.Errorf("create segment: %w", err)
	}
	f, err := g.cfg.fs.Create(path)
	if err == nil {
		if err = errors.Join(f.Allocate(g.cfg.SegmentSize)); err == nil {
			_, err = f.WriteAt(h.encode(), 0)
		}
		if err == nil {
			err = g.cfg.fs.SyncDir(g.dir)
		}
		if err != nil {
			f.Close()
			os.Remove(path)
		}
	}
	if err != nil {
		g.used.add(-g.cfg.SegmentSize)
		return nil, fmt.Errorf("create segment %s: %w", path, err)
	}
	return &segment{header: h, path: path, f: f, size: g.cfg.SegmentSize, end: headerSize, born: g.cfg.Now()}, nil
}

// discard removes a segment that is not in use.
func (g *generation) discard(s *segment) {
	s.f.Close()
	os.Remove(s.path)
	g.used.add(-s.size)
}

// extent tells a cursor how far it may read a segment, and whether that is final.
func (g *generation) extent(s *segment) (end int64, final bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return s.end, g.ended || g.segs[len(g.segs)-1] != s
}

// after gives the segment that follows, the first one after nil; nil if there is none.
func (g *generation) after(s *segment) *segment {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, x := range g.segs {
		if s == nil {
			return x
		}
		if x == s && i+1 < len(g.segs) {
			return g.segs[i+1]
		}
	}
	return nil
}

func (g *generation) notify() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// dropFirst removes the first segment if it is s and not the last, or keeps its file for the next one.
func (g *generation) dropFirst(s *segment) error {
	g.mu.Lock()
	if len(g.segs) < 2 || g.segs[0] != s {
		g.mu.Unlock()
		return nil
	}
	g.segs = g.segs[1:]
	g.mu.Unlock()
	if !g.keepSpare(s) {
		s.f.Close()
		if err := os.Remove(s.path); err != nil {
			return fmt.Errorf("remove shipped segment: %w", err)
		}
		g.used.add(-s.size)
	}
	if g.freed != nil {
		g.freed()
	}
	return nil
}

// close gives the files and the ownership back.
func (g *generation) close() {
	g.dropSpare()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.segs {
		if s.f != nil {
			s.f.Close()
		}
	}
	g.acked.close()
	g.lock.Close()
}

// remove deletes everything of a generation that has been shipped to its end, under its lock. If it is cut short,
// what is left holds nothing to ship and goes with the next start.
func (g *generation) remove() error {
	g.mu.Lock()
	segs := g.segs
	g.mu.Unlock()
	for _, s := range segs {
		if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove shipped generation: %w", err)
		}
		g.used.add(-s.size)
	}
	if err := os.RemoveAll(g.dir); err != nil {
		return fmt.Errorf("remove shipped generation: %w", err)
	}
	return g.cfg.fs.SyncDir(g.cfg.Dir)
}
