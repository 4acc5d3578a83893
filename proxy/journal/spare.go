package journal

import (
	"os"
	"path/filepath"
	"time"
)

// spareName is what the file of a shipped segment is called until it is used again.
const spareName = "spare"

// spareAge bounds how long ago the life of a segment began whose file is used again: that of a busy journal is in memory
// still; of another one each page would have to be read from the disk before a part of it could be written.
const spareAge = 10 * time.Minute

// keepSpare keeps the file of a shipped segment for the next one, if it is worth it. The cursor alone calls it.
func (g *generation) keepSpare(s *segment) bool {
	g.mu.Lock()
	enough := g.spare != nil || g.ended
	g.mu.Unlock()
	if enough || s.size != g.cfg.SegmentSize || g.cfg.Now().Sub(s.born) > spareAge {
		return false
	}
	path := filepath.Join(g.dir, spareName)
	if err := s.f.Rename(s.path, path); err != nil {
		return false
	}
	s.path = path
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spare = s
	return true
}

func (g *generation) takeSpare() *segment {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.spare
	g.spare = nil
	return s
}

// successor makes the segment for h, of the spare file if there is one, else as create does. A file that is used again
// has a seed of its own.
//
// Not obvious: its old records stay behind the new ones until those have come so far. Their heads can not pass for the
// new segment's: checksums of the same length that start from different seeds are never equal for the same bytes. And no
// seed comes twice in a generation.
func (g *generation) successor(h header) (*segment, error) {
	s := g.takeSpare()
	if s == nil {
		return g.create(h)
	}
	fresh := h
	h.seed, h.reused = h.seed+1, true
	if g.cfg.Now().Sub(s.born) <= spareAge {
		err := g.reuse(s, h)
		if err == nil {
			return s, nil
		}
		g.cfg.Log.Warn("journal: the file of a shipped segment cannot be used again; a new one is made", "file", s.path, "error", err)
	}
	g.discard(s)
	return g.create(fresh)
}

// reuse makes the spare file a segment. No name ever leads to another segment's header: the file has its name as a spare
// on the disk before its header is changed, and its new header before its new name.
func (g *generation) reuse(s *segment, h header) error {
	path := filepath.Join(g.dir, segmentName(h.number))
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) { // left by an attempt that failed
		return err
	}
	if err := g.cfg.fs.SyncDir(g.dir); err != nil {
		return err
	}
	if _, err := s.f.WriteAt(h.encode(), 0); err != nil {
		return err
	}
	if err := s.f.Sync(); err != nil {
		return err
	}
	if err := s.f.Rename(s.path, path); err != nil {
		return err
	}
	s.path = path
	if err := g.cfg.fs.SyncDir(g.dir); err != nil {
		return err
	}
	s.header, s.born, s.orphan = h, g.cfg.Now(), false
	return nil
}

// dropSpare gives the room of the spare file back, if there is one.
func (g *generation) dropSpare() bool {
	s := g.takeSpare()
	if s != nil {
		g.discard(s)
	}
	return s != nil
}
