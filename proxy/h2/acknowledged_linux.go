package h2

import (
	"encoding/binary"
	"syscall"
	"unsafe"
)

// acknowledged is tcpi_bytes_acked of tcp(7)'s TCP_INFO: how many bytes the other side's kernel has taken.
func acknowledged(fd uintptr) (int64, bool) {
	const at, size = 120, 128
	var info [size]byte
	n := uint32(size)
	_, _, err := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&n)), 0)
	return int64(binary.NativeEndian.Uint64(info[at:])), err == 0 && n == size
}
