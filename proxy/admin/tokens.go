package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// Tokens are who may do what. An empty viewer's token admits nobody.
type Tokens struct {
	Operator string // may read and change
	Viewer   string // may read
}

// The files that [EnsureTokens] keeps.
const (
	OperatorFile = "operator.token"
	ViewerFile   = "viewer.token"
)

const leastToken = 16

// Validate bounds the tokens' lengths.
func (t Tokens) Validate() error {
	for name, s := range map[string]string{"operator": t.Operator, "viewer": t.Viewer} {
		if s == "" && name == "viewer" {
			continue
		}
		if len(s) < leastToken || strings.ContainsAny(s, " \t\r\n") {
			return fmt.Errorf("%s's token: want at least %d characters without spaces; `openssl rand -hex 32` makes one", name, leastToken)
		}
	}
	if t.Operator == t.Viewer {
		return errors.New("the viewer's token is the operator's: a viewer could change things")
	}
	return nil
}

// EnsureTokens reads both tokens from files of a directory and makes those that are missing, readable by their owner
// only. made are the paths of new ones.
func EnsureTokens(dir string) (t Tokens, made []string, err error) {
	for name, to := range map[string]*string{OperatorFile: &t.Operator, ViewerFile: &t.Viewer} {
		path := filepath.Join(dir, name)
		fresh := false
		if *to, fresh, err = EnsureToken(path); err != nil {
			return t, made, err
		}
		if fresh {
			made = append(made, path)
		}
	}
	return t, made, t.Validate()
}

// EnsureToken is EnsureTokens for one file.
func EnsureToken(path string) (token string, made bool, err error) {
	token, err = ReadToken(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return token, false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return "", false, fmt.Errorf("token file: %w", err)
	}
	err = makeToken(path)
	if err != nil && !errors.Is(err, fs.ErrExist) { // or another process of this host was faster
		return "", false, err
	}
	made = err == nil
	token, err = ReadToken(path)
	return token, made, err
}

// ReadToken reads a token file that nobody but its owner may read.
func ReadToken(path string) (string, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("token file %s: others may read it (mode %04o): make a new one and `chmod 600` it", path, fi.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", fmt.Errorf("token file %s: empty: remove it, and the next start makes a new one", path)
	}
	return token, nil
}

// makeToken writes a new file that appears whole or not at all, and never replaces one.
func makeToken(path string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".token-*") // mode 0600
	if err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	defer os.Remove(tmp.Name())
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	_, err = fmt.Fprintln(tmp, base64.RawURLEncoding.EncodeToString(b[:]))
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Link(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	return nil
}

// digests are compared instead of tokens, so that the time taken tells not even a length.
type digests struct {
	operator, viewer [sha256.Size]byte
	viewers          bool
}

func (t Tokens) digests() digests {
	return digests{sha256.Sum256([]byte(t.Operator)), sha256.Sum256([]byte(t.Viewer)), t.Viewer != ""}
}

// who tells what the request's token allows.
func (d *digests) who(r *http.Request) (reads, changes bool) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(token))
	operator := subtle.ConstantTimeCompare(sum[:], d.operator[:]) == 1
	viewer := subtle.ConstantTimeCompare(sum[:], d.viewer[:]) == 1 && d.viewers
	return ok && (operator || viewer), ok && operator
}
