package journal

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

func (f osFile) Allocate(size int64) error {
	err := syscall.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		return zeroFill(f, size)
	}
	return err
}

// Sync is fdatasync: the size of a segment does not change after its allocation.
//
// Not obvious: a goroutine in a system call keeps its processor (GOMAXPROCS) until the runtime's monitor takes it away,
// which may be 10 ms later: a disk's time, in which nobody else runs there. So the kernel is asked to sync while the
// goroutine waits as for a socket. Where it cannot, the system call is made, see [noSyncInKernel]; when it cannot for
// another reason, as that the machine has no more such requests, it is asked again the next time.
func (f osFile) Sync() error {
	if s := takeAsync(); s != nil {
		done, err := s.fdatasync(f.Fd())
		if done {
			giveAsync(s)
			return err
		}
		s.close()
		refused(err)
	}
	for {
		if err := syscall.Fdatasync(int(f.Fd())); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// asyncSync has the kernel sync files, one at a time: io_submit(2) with IOCB_CMD_FDSYNC, which Linux has since 4.18. An
// eventfd(2) tells when it is done.
type asyncSync struct {
	context uintptr // aio_context_t
	told    *os.File
	request [64]byte // struct iocb
	event   [32]byte // struct io_event
}

// spare are those that nobody uses: a process has as many as it syncs files at once.
var spare struct {
	sync.Mutex
	list   []*asyncSync
	absent error // why the kernel, or what confines this process, or the file system does not have it
}

// noSyncInKernel is why this process has its files synced by system calls, nil if it has not.
func noSyncInKernel() error {
	spare.Lock()
	defer spare.Unlock()
	return spare.absent
}

// takeAsync gives nil where there is none.
func takeAsync() *asyncSync {
	spare.Lock()
	defer spare.Unlock()
	if n := len(spare.list); n > 0 {
		s := spare.list[n-1]
		spare.list = spare.list[:n-1]
		return s
	}
	if spare.absent != nil {
		return nil
	}
	s, err := newAsyncSync()
	if err != nil {
		refusedLocked(err)
	}
	return s
}

func giveAsync(s *asyncSync) {
	spare.Lock()
	defer spare.Unlock()
	spare.list = append(spare.list, s)
}

// refused is told of each error but those of the disk.
func refused(err error) {
	spare.Lock()
	defer spare.Unlock()
	refusedLocked(err)
}

func refusedLocked(err error) {
	for _, absent := range []error{syscall.ENOSYS, syscall.EINVAL, syscall.EOPNOTSUPP, syscall.EPERM} {
		if errors.Is(err, absent) {
			spare.absent = err
		}
	}
}

// close is for one that was of no use. It waits for what was asked.
func (s *asyncSync) close() {
	_, _, _ = syscall.Syscall(syscall.SYS_IO_DESTROY, s.context, 0, 0) // neither can fail for what was just made
	_ = s.told.Close()
}

func newAsyncSync() (*asyncSync, error) {
	const flags = syscall.O_CLOEXEC | syscall.O_NONBLOCK // EFD_CLOEXEC | EFD_NONBLOCK
	fd, _, errno := syscall.Syscall(syscall.SYS_EVENTFD2, 0, flags, 0)
	if errno != 0 {
		return nil, errno
	}
	s := &asyncSync{told: os.NewFile(fd, "eventfd")}
	if _, _, errno := syscall.Syscall(syscall.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&s.context)), 0); errno != 0 {
		return nil, errors.Join(errno, s.told.Close())
	}
	const fdsync, tell = 3, 1 // IOCB_CMD_FDSYNC, IOCB_FLAG_RESFD
	binary.NativeEndian.PutUint16(s.request[16:], fdsync)
	binary.NativeEndian.PutUint32(s.request[56:], tell)
	binary.NativeEndian.PutUint32(s.request[60:], uint32(fd))
	return s, nil
}

// fdatasync reports in done whether the kernel took the request.
func (s *asyncSync) fdatasync(fd uintptr) (done bool, err error) {
	binary.NativeEndian.PutUint32(s.request[20:], uint32(fd))
	request := &s.request
	n, _, errno := syscall.Syscall(syscall.SYS_IO_SUBMIT, s.context, 1, uintptr(unsafe.Pointer(&request)))
	if errno != 0 || n != 1 {
		return false, errno
	}
	var count [8]byte
	if _, err := s.told.Read(count[:]); err != nil {
		return false, err
	}
	var none syscall.Timespec
	n, _, errno = syscall.Syscall6(syscall.SYS_IO_GETEVENTS, s.context, 1, 1, uintptr(unsafe.Pointer(&s.event)), uintptr(unsafe.Pointer(&none)), 0)
	if errno != 0 || n != 1 {
		return false, errno
	}
	if res := int64(binary.NativeEndian.Uint64(s.event[16:])); res < 0 {
		return true, syscall.Errno(-res)
	}
	return true, nil
}
