package compare

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"

	"banyan/proxy/capture"
)

var (
	errTooLong  = errors.New("longer than the bound")
	errEncoding = errors.New("content coding is not known")
	errGzip     = errors.New("not gzip")
)

// decoded is the body without its content coding. Errors are few and fixed: they are counted by their text.
func decoded(a *capture.Answer, most int) ([]byte, error) {
	body := a.Body
	switch strings.ToLower(strings.TrimSpace(a.Encoding)) {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, errGzip
		}
		if body, err = io.ReadAll(io.LimitReader(z, int64(most)+1)); err != nil {
			return nil, errGzip
		}
	default:
		return nil, errEncoding
	}
	if len(body) > most {
		return nil, errTooLong
	}
	return body, nil
}
