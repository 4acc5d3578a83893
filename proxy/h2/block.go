package h2

import "bytes"

// staticNames is where a name first stands in HPACK's static table (RFC 7541 appendix A).
var staticNames = map[string]byte{"accept-charset": 15, "accept-encoding": 16, "accept-language": 17, "accept-ranges": 18, "accept": 19,
	"access-control-allow-origin": 20, "age": 21, "allow": 22, "cache-control": 24, "content-disposition": 25, "content-encoding": 26,
	"content-language": 27, "content-length": 28, "content-location": 29, "content-range": 30, "content-type": 31, "date": 33, "etag": 34,
	"expires": 36, "last-modified": 44, "link": 45, "location": 46, "proxy-authenticate": 48, "refresh": 52, "retry-after": 53, "server": 54,
	"set-cookie": 55, "strict-transport-security": 56, "vary": 59, "via": 60, "www-authenticate": 61}

var staticStatus = map[string]byte{"200": 8, "204": 9, "206": 10, "304": 11, "400": 12, "404": 13, "500": 14}

// appendAnswer appends the header block of a head that stands in lines as HTTP/1.1 has it. Fields of the connection are
// left out. The dynamic table is not used: an encoder without state needs no lock, and nobody can guess a secret by the
// size of what shares a table with it.
func appendAnswer(dst, lines []byte) []byte {
	const version = len("HTTP/1.1 ")
	status := lines[version : version+3]
	if i, ok := staticStatus[string(status)]; ok {
		dst = append(dst, 0x80|i)
	} else {
		dst = append(append(dst, 8, 3), status...)
	}
	_, lines, _ = bytes.Cut(lines, crlf)
	for len(lines) > 2 {
		var line []byte
		line, lines, _ = bytes.Cut(lines, crlf)
		colon := bytes.IndexByte(line, ':')
		if colon < 1 {
			continue
		}
		dst = appendField(dst, line[:colon], bytes.Trim(line[colon+1:], " \t"))
	}
	return dst
}

var crlf = []byte("\r\n")

func appendField(dst, name, value []byte) []byte {
	var buf [64]byte
	lower := buf[:0]
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		lower = append(lower, c)
	}
	switch string(lower) {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return dst
	}
	prefix := byte(0) // literal without indexing
	if string(lower) == "set-cookie" {
		prefix = 0x10 // never indexed, by whoever passes it on either
	}
	if i := staticNames[string(lower)]; i > 0 {
		dst = appendInt(dst, prefix, 4, int(i))
	} else {
		dst = append(appendInt(append(dst, prefix), 0, 7, len(lower)), lower...)
	}
	return append(appendInt(dst, 0, 7, len(value)), value...)
}

// appendInt appends HPACK's integer of RFC 7541 5.1, whose first byte has n low bits for it.
func appendInt(dst []byte, first byte, n uint, v int) []byte {
	limit := 1<<n - 1
	if v < limit {
		return append(dst, first|byte(v))
	}
	dst = append(dst, first|byte(limit))
	for v -= limit; v >= 128; v >>= 7 {
		dst = append(dst, byte(v)|0x80)
	}
	return append(dst, byte(v))
}
