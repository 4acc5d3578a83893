package proxy

import (
	"os"
	"runtime"
	"syscall"
)

const (
	bulkMin   = 256 << 10 // a body that has moved so many bytes takes turns
	fairShare = 32 << 10  // bytes after which a turn ends with the piece: those of copySize, less a chunk's frame, have one each
)

// fair lets others run while a large body passes. Where both sides are fast a goroutine that copies never waits, and
// holds its processor until the runtime takes it away after 10 ms: two hundred uploads made everybody wait for seconds.
// A body below bulkMin has no part in it.
type fair struct {
	turns *turns
	moved int // since the last turn began
	bulk  bool
}

// pass is called with each piece of the body that was read, before it is sent.
func (f *fair) pass(n int) {
	f.moved += n
	switch {
	case !f.bulk:
		f.bulk = f.moved >= bulkMin
	case f.moved >= fairShare:
		f.turns.await()
		f.moved = 0
	}
}

// turns lets large bodies go on, one after the other in the order in which they ask, each when a processor has nothing
// else to do. At the worst, where none ever has, one goes on every 10 ms.
//
// Not obvious: to stand behind all who are ready to run (runtime.Gosched) is not enough. The runtime asks the network who
// has become ready only when a processor has nobody to run, or after 10 ms: among hundreds of goroutines that copy this
// hardly happens, and a small request was noticed late, several times in its life. So whoever is next makes a pipe
// readable and waits for it as for a connection: only when nobody else is ready the runtime finds it, with all who have
// become ready until then. Of those it lets the one run first that became ready last, which is always the one with the
// pipe: so that one stands behind the others once more.
//
// Nothing is held during a turn. So a body whose client or upstream has to be waited for keeps nobody from going on, and
// no way out of a copy can forget to give something back.
type turns struct {
	next chan struct{} // full while somebody is next, who owns all below; the others wait for it

	r, w  *os.File // a pipe, nil before it is needed
	rc    syscall.RawConn
	wfd   uintptr
	wrote bool
	buf   [1]byte
	fn    func(fd uintptr) bool // look, bound once: made for each turn, it would be garbage
}

func newTurns() *turns { return &turns{next: make(chan struct{}, 1)} }

// await returns when the caller may go on.
func (t *turns) await() {
	t.next <- struct{}{}
	t.wrote = false
	if t.open() {
		_ = t.rc.Read(t.fn) // an error says that pipes are not polled: then there is no more than what follows
	}
	runtime.Gosched()
	<-t.next
}

// open opens the pipe. It is closed when the server is garbage: os.File sees to it.
func (t *turns) open() bool {
	if t.rc != nil {
		return true
	}
	r, w, err := os.Pipe()
	if err != nil {
		return false
	}
	rc, err := r.SyscallConn()
	wc, err2 := w.SyscallConn()
	if err != nil || err2 != nil || wc.Control(func(fd uintptr) { t.wfd = fd }) != nil {
		r.Close()
		w.Close()
		return false
	}
	t.r, t.w, t.rc, t.fn = r, w, rc, t.look
	return true
}

// look is called at the start of the wait, and when the pipe has become readable. What it writes in the first call wakes
// the wait: whatever became readable before is forgotten by then.
func (t *turns) look(fd uintptr) bool {
	if !t.wrote {
		t.wrote = true
		_, err := syscall.Write(int(t.wfd), t.buf[:])
		return err != nil // then there is nothing to wait for
	}
	_, err := syscall.Read(int(fd), t.buf[:])
	return err != syscall.EAGAIN
}
