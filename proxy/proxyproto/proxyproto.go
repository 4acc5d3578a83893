// Package proxyproto reads the header with which a load balancer tells, ahead of a connection's first byte, on whose
// behalf it connects: the PROXY protocol of HAProxy, versions 1 (text) and 2 (binary).
//
// It promises: what is not exactly a header of one of the versions is an error, never a guess; a header of
// version 1 has at most 107 bytes, one of version 2 at most [Max], its extensions are skipped. It leaves to others whom
// to believe: a header from anybody but a trusted peer must not be read at all, since it names any address.
//
// It fails with an error; the connection is to be closed then, and nothing of it answered.
//
// Source: "The PROXY protocol, versions 1 & 2", haproxy.org, 2020.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
)

// Max bounds a header of version 2, its extensions included.
const Max = 4096

const (
	maxText = 107 // of version 1, with its CRLF
	fixed   = 16  // of version 2: signature, command, family, length
)

var signature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// Header is what a load balancer says.
type Header struct {
	// Client and Server are the ends of the client's connection. They are not valid if the balancer speaks for itself
	// (a health check), or of an address that is neither IPv4 nor IPv6.
	Client, Server netip.AddrPort
}

// The ways in which bytes are no header.
var (
	ErrNone    = errors.New("the connection does not begin with a PROXY header; its peer is listed as one that sends it")
	ErrText    = errors.New("PROXY header of version 1 is malformed")
	ErrBinary  = errors.New("PROXY header of version 2 is malformed")
	ErrTooLong = errors.New("PROXY header is longer than the limit")
)

// Parse reads a header at the beginning of b. n is its length; 0 without an error: more bytes are needed.
func Parse(b []byte) (h Header, n int, err error) {
	if k := min(len(b), len(signature)); bytes.Equal(b[:k], signature[:k]) {
		if k < len(signature) {
			return h, 0, nil
		}
		return parseBinary(b)
	}
	const text = "PROXY "
	if k := min(len(b), len(text)); string(b[:k]) == text[:k] {
		if k < len(text) {
			return h, 0, nil
		}
		return parseText(b)
	}
	return h, 0, ErrNone
}

// Missing tells how many bytes a header that begins with b has still to come, at the least: whoever reads no more at a
// time, while Parse asks for more, takes nothing of what follows the header.
func Missing(b []byte) int {
	const least = len("PROXY UNKNOWN\r\n") // of version 1; version 2 has more
	switch {
	case len(b) < least:
		return least - len(b)
	case b[0] == 'P':
		return 1 // a line ends anywhere
	case len(b) < fixed:
		return fixed - len(b)
	}
	return max(1, fixed+int(binary.BigEndian.Uint16(b[14:]))-len(b))
}

func parseText(b []byte) (h Header, n int, err error) {
	end := bytes.IndexByte(b[:min(len(b), maxText)], '\n')
	if end < 0 {
		if len(b) >= maxText {
			return h, 0, ErrTooLong
		}
		return h, 0, nil
	}
	line := b[:end]
	if len(line) == 0 || line[len(line)-1] != '\r' {
		return h, 0, ErrText
	}
	rest := line[len("PROXY ") : len(line)-1]
	family, rest, more := bytes.Cut(rest, []byte{' '})
	switch string(family) {
	case "UNKNOWN": // whatever follows is to be ignored
		return h, end + 1, nil
	case "TCP4", "TCP6":
	default:
		return h, 0, ErrText
	}
	var parts [4][]byte
	for i := range parts {
		if !more {
			return h, 0, ErrText
		}
		parts[i], rest, more = bytes.Cut(rest, []byte{' '})
	}
	if more {
		return h, 0, ErrText
	}
	four := string(family) == "TCP4"
	client, ok1 := textAddress(parts[0], parts[2], four)
	server, ok2 := textAddress(parts[1], parts[3], four)
	if !ok1 || !ok2 {
		return h, 0, ErrText
	}
	return Header{client, server}, end + 1, nil
}

// textAddress takes canonical ports only: no sign, no leading zero.
func textAddress(addr, port []byte, four bool) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(string(addr))
	if err != nil || a.Is4() != four || a.Zone() != "" {
		return netip.AddrPort{}, false
	}
	p, err := strconv.ParseUint(string(port), 10, 16)
	if err != nil || len(port) > 1 && port[0] == '0' || len(port) == 0 || port[0] == '+' {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), true
}

func parseBinary(b []byte) (h Header, n int, err error) {
	if len(b) < fixed {
		return h, 0, nil
	}
	command, family := b[12], b[13]
	length := int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case command>>4 != 2 || command&0xF > 1:
		return h, 0, ErrBinary
	case fixed+length > Max:
		return h, 0, ErrTooLong
	case len(b) < fixed+length:
		return h, 0, nil
	}
	n = fixed + length
	if command&0xF == 0 { // LOCAL: the balancer itself
		return h, n, nil
	}
	size := 0
	switch family {
	case 0x11: // TCP over IPv4
		size = 4
	case 0x21: // TCP over IPv6
		size = 16
	case 0x00, 0x12, 0x22, 0x31, 0x32: // unspecified, datagrams, unix: no address that could be used
		return h, n, nil
	default:
		return h, 0, ErrBinary
	}
	if length < 2*size+4 {
		return h, 0, ErrBinary
	}
	body := b[fixed:n]
	client, _ := netip.AddrFromSlice(body[:size]) // 4 or 16 bytes: always one
	server, _ := netip.AddrFromSlice(body[size : 2*size])
	h.Client = netip.AddrPortFrom(client.Unmap(), binary.BigEndian.Uint16(body[2*size:]))
	h.Server = netip.AddrPortFrom(server.Unmap(), binary.BigEndian.Uint16(body[2*size+2:]))
	return h, n, nil
}
