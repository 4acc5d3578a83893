package pgserver

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/xi2/xz"
)

// Version is what is fetched.
const Version = "17.5.0"

// archives are the SHA-256 of what Maven Central has for each platform.
var archives = map[string]string{
	"linux-amd64":        "646f3269075d1a23904127374e3cdbcef96beb32979fedee25d835877400fcbe",
	"linux-amd64-alpine": "7122386c7f7a089568f05720ada63448093d4065abbc0a89e6dc660851a53e3c",
	"linux-arm64v8":      "e02f27ff50ff2d90b6541d54f3f108505aacd84ea53c2890e976a684bfea2752",
	"darwin-amd64":       "fb70f783928e77c3d6ef5ca8ed644f1ac502f740fcfc032a375c8347820f2bdd",
	"darwin-arm64v8":     "e9d3398e10c2ec926395498b03e75ad1a24eeaed82895e756a7e173b202cf6de",
}

// repository is where archives are; maxArchive bounds one, and maxFile what is unpacked of it.
const (
	repository = "https://repo1.maven.org/maven2/io/zonky/test/postgres"
	maxArchive = 64 << 20
	maxFile    = 256 << 20
)

// platform is this machine's name among the archives.
func platform() string {
	arch := runtime.GOARCH
	if arch == "arm64" {
		arch = "arm64v8"
	}
	name := runtime.GOOS + "-" + arch
	if _, err := os.Stat("/etc/alpine-release"); err == nil {
		name += "-alpine"
	}
	return name
}

// Binaries gives the directory of PostgreSQL's binaries below cache, and fetches them if they are not there yet. say is
// told what takes time.
func Binaries(ctx context.Context, cache string, say func(string)) (string, error) {
	name := platform()
	sum, ok := archives[name]
	if !ok {
		return "", fmt.Errorf("no PostgreSQL binaries are known for %s: install PostgreSQL and run with REAL=1", name)
	}
	dir := filepath.Join(cache, "postgres-"+Version+"-"+name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	say("fetching PostgreSQL " + Version + " for " + name + " from Maven Central, 15 MB, once, into " + dir)
	jar, err := download(ctx, fmt.Sprintf("%s/embedded-postgres-binaries-%s/%s/embedded-postgres-binaries-%s-%s.jar", repository, name, Version, name, Version), sum)
	if err != nil {
		return "", fmt.Errorf("fetch PostgreSQL: %w", err)
	}
	// Unpacked aside and renamed whole: another process may be doing the same.
	aside, err := os.MkdirTemp(cache, "fetch-")
	if err != nil {
		return "", fmt.Errorf("cache directory: %w", err)
	}
	defer os.RemoveAll(aside)
	whole := filepath.Join(aside, "postgres")
	if err := unpack(jar, whole); err != nil {
		return "", fmt.Errorf("unpack PostgreSQL: %w", err)
	}
	if err := os.Rename(whole, dir); err != nil {
		if _, there := os.Stat(dir); there != nil {
			return "", fmt.Errorf("cache directory: %w", err)
		}
	}
	return dir, nil
}

func download(ctx context.Context, url, sum string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w; is there a way to the Internet, or should HTTPS_PROXY be set?", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxArchive))
	if err != nil {
		return nil, err
	}
	if got := sha256.Sum256(b); hex.EncodeToString(got[:]) != sum {
		return nil, fmt.Errorf("%s: its SHA-256 is %x, want %s", url, got, sum)
	}
	return b, nil
}

// unpack takes the archive out of the archive.
func unpack(jar []byte, dir string) error {
	z, err := zip.NewReader(bytes.NewReader(jar), int64(len(jar)))
	if err != nil {
		return err
	}
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, ".txz") {
			r, err := f.Open()
			if err != nil {
				return err
			}
			defer r.Close()
			x, err := xz.NewReader(r, 0)
			if err != nil {
				return err
			}
			return untar(tar.NewReader(x), dir)
		}
	}
	return errors.New("the archive holds no .txz")
}

func untar(t *tar.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir) // no entry leaves it
	if err != nil {
		return err
	}
	defer root.Close()
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.Clean(h.Name)
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeSymlink:
			err = root.Symlink(h.Linkname, name)
		case tar.TypeReg:
			err = write(root, name, h.FileInfo().Mode().Perm()|0o444, t)
		}
		if err != nil {
			return err
		}
	}
}

func write(root *os.Root, name string, mode os.FileMode, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(r, maxFile))
	return errors.Join(err, f.Close())
}
