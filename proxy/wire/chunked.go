package wire

import "bytes"

const (
	maxSizeDigits  = 15       // below 2^60, so that no sum overflows
	maxExtension   = 1 << 10  // bytes of one chunk's extension
	maxExtensions  = 16 << 10 // of all extensions of a body: nobody needs them, attackers hide in them
	maxTrailerSize = 8 << 10
)

type chunkState uint8

const (
	atSize chunkState = iota
	inSize
	inExtension
	atSizeLF
	inData
	atDataCR
	atDataLF
	inTrailer
	afterEnd
)

// Chunks decodes a chunked body. Extensions and trailers are checked and left out. The zero value is ready.
type Chunks struct {
	left       int64
	digits     int
	extension  int
	extensions int
	trailers   int
	trailer    []byte // a trailer line that came in pieces
	state      chunkState
}

// Reset makes c ready for the next body.
func (c *Chunks) Reset() { *c = Chunks{trailer: c.trailer[:0]} }

// Done tells whether the last chunk and its trailers were read.
func (c *Chunks) Done() bool { return c.state == afterEnd }

// Decode moves decoded bytes from src to dst and tells how many of each it used. It stops when either is used up or the
// body has ended (Done); bytes of src behind the end are left. dst may be src: data only ever moves to the front.
func (c *Chunks) Decode(dst, src []byte) (written, read int, err error) {
	for read < len(src) {
		switch c.state {
		case inData:
			if written == len(dst) {
				return written, read, nil
			}
			n := copy(dst[written:], src[read:min(int64(len(src)), int64(read)+c.left)])
			written, read, c.left = written+n, read+n, c.left-int64(n)
			if c.left == 0 {
				c.state = atDataCR
			}
		case inTrailer:
			n, err := c.trailerLine(src[read:])
			if read += n; err != nil {
				return written, read, err
			}
		case afterEnd:
			return written, read, nil
		default:
			if err := c.step(src[read]); err != nil {
				return written, read, err
			}
			read++
		}
	}
	return written, read, nil
}

// step takes one byte of the framing between data.
func (c *Chunks) step(b byte) error {
	switch c.state {
	case atSize, inSize:
		return c.sizeByte(b)
	case inExtension:
		c.extension++
		c.extensions++
		if c.extension > maxExtension || c.extensions > maxExtensions {
			return errChunkExt
		}
		if b == '\r' {
			c.state = atSizeLF
		} else if b < 0x20 && b != '\t' || b == 0x7f {
			return errChunkExt
		}
	case atSizeLF:
		if b != '\n' {
			return errChunkSize
		}
		if c.state = inData; c.left == 0 {
			c.state = inTrailer
		}
		c.digits, c.extension = 0, 0
	case atDataCR:
		if b != '\r' {
			return errChunkEnd
		}
		c.state = atDataLF
	case atDataLF:
		if b != '\n' {
			return errChunkEnd
		}
		c.state = atSize
	}
	return nil
}

func (c *Chunks) sizeByte(b byte) error {
	var d byte
	switch {
	case '0' <= b && b <= '9':
		d = b - '0'
	case 'a' <= b|0x20 && b|0x20 <= 'f':
		d = b | 0x20 - 'a' + 10
	case c.state == inSize && b == '\r':
		c.state = atSizeLF
		return nil
	case c.state == inSize && b == ';':
		c.state = inExtension
		return nil
	default:
		return errChunkSize
	}
	if c.digits++; c.digits > maxSizeDigits {
		return errChunkSize
	}
	c.state, c.left = inSize, c.left<<4|int64(d)
	return nil
}

// trailerLine takes what src has of the next line of the trailer section.
func (c *Chunks) trailerLine(src []byte) (n int, err error) {
	i := bytes.IndexByte(src, '\n')
	n = i + 1
	if i < 0 {
		n = len(src)
	}
	if c.trailers += n; c.trailers > maxTrailerSize {
		return n, errTrailer
	}
	line := src[:n]
	if i < 0 || len(c.trailer) > 0 {
		c.trailer = append(c.trailer, line...)
		line = c.trailer
	}
	if i < 0 {
		return n, nil
	}
	c.trailer = c.trailer[:0]
	return n, c.endTrailer(line)
}

func (c *Chunks) endTrailer(line []byte) error {
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return errTrailer
	}
	line = line[:len(line)-2]
	if len(line) == 0 {
		c.state = afterEnd
		return nil
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 0 || !isToken(line[:colon]) || !valueOK(line[colon+1:]) {
		return errTrailer
	}
	return nil
}

// ChunkOverhead is the room that a chunk needs before (ChunkRoom) its data and behind (ChunkTail) it, the last chunk included.
const (
	ChunkRoom = 10
	ChunkTail = 7
)

// LastChunk ends a chunked body without trailers.
const LastChunk = "0\r\n\r\n"

// ChunkHead writes the size line of a chunk of n > 0 bytes so that it ends at the end of room, and gives where it starts.
func ChunkHead(room []byte, n int) (start int) {
	const hex = "0123456789abcdef"
	i := len(room) - 2
	room[i], room[i+1] = '\r', '\n'
	for ; n > 0; n >>= 4 {
		i--
		room[i] = hex[n&15]
	}
	return i
}
