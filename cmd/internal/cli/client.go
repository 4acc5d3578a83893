package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"banyan/cmd/internal/config"
	"banyan/cmd/internal/role"
	"banyan/proxy/admin"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
)

// remote is how a command finds the admin API.
type remote struct {
	admin, tokenFile, file string
}

func (r *remote) flags(c *cobra.Command) {
	f := c.PersistentFlags()
	f.StringVar(&r.admin, "admin", "", "the admin API, such as http://127.0.0.1:9901 (default: $BANYAN_ADMIN, or proxy.admin of the configuration)")
	f.StringVar(&r.tokenFile, "token-file", "", "file with the admin token (default: $BANYAN_TOKEN, or proxy.token, or the file that the proxy made)")
	f.StringVarP(&r.file, "config", "c", "banyan.yaml", "the configuration to take both from, if it is there")
	_ = c.MarkPersistentFlagFilename("config", "yaml", "yml") // fails only for a flag that does not exist
	_ = c.MarkPersistentFlagFilename("token-file")
}

// client speaks to the admin API.
type client struct {
	base, token string
	http        *http.Client
}

func (r *remote) client(c *cobra.Command) (*client, error) {
	out := &client{base: r.admin, http: &http.Client{Timeout: 2 * time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}} // a token follows no redirect
	if out.base == "" {
		out.base = os.Getenv("BANYAN_ADMIN")
	}
	if r.tokenFile != "" {
		t, err := admin.ReadToken(r.tokenFile)
		if err != nil {
			return nil, usage("--token-file: %w", err)
		}
		out.token = t
	} else {
		out.token = os.Getenv("BANYAN_TOKEN")
	}
	if out.base == "" || out.token == "" {
		if err := r.fromConfig(c, out); err != nil {
			return nil, err
		}
	}
	if out.base == "" {
		out.base = "http://127.0.0.1:9901"
	}
	base, err := baseURL(out.base)
	if err != nil {
		return nil, err
	}
	out.base = base
	if out.token == "" {
		return nil, usage("no admin token: give --token-file, or -c with the proxy's configuration")
	}
	return out, nil
}

// fromConfig takes what is not given yet from the file, which need not be there.
func (r *remote) fromConfig(c *cobra.Command, out *client) error {
	b, err := os.ReadFile(r.file)
	if errors.Is(err, fs.ErrNotExist) && !c.Flags().Changed("config") {
		return nil
	}
	if err != nil {
		return usage("config: %w", err)
	}
	f, err := partOf(r.file, b, out.base == "", out.token == "")
	if err != nil {
		return err
	}
	if out.base == "" {
		out.base = f.Proxy.Admin
	}
	if out.token != "" {
		return nil
	}
	if out.token = f.Proxy.Token; out.token != "" {
		return nil
	}
	file := filepath.Join(role.TokenDir(f), admin.OperatorFile)
	if out.token, err = admin.ReadToken(file); err != nil {
		return usage("%w; the proxy makes it at its first start. On another machine give --token-file", err)
	}
	return nil
}

// partOf reads no more of the file than is needed: an operator's machine has none of the secrets that the rest names.
func partOf(name string, b []byte, base, token bool) (*config.File, error) {
	var all struct {
		Proxy struct {
			Admin, Token string
			Journal      struct{ Dir string }
		}
	}
	if err := yaml.Unmarshal(b, &all); err != nil {
		return nil, usage("%s: %w; `banyan check -c %s` tells more", name, err, name)
	}
	p := map[string]any{}
	if base && all.Proxy.Admin != "" {
		p["admin"] = all.Proxy.Admin
	}
	if token && all.Proxy.Token != "" {
		p["token"] = all.Proxy.Token
	} else if token && all.Proxy.Journal.Dir != "" {
		p["journal"] = map[string]string{"dir": all.Proxy.Journal.Dir}
	}
	part, err := json.Marshal(map[string]any{"version": 1, "proxy": p, "upstreams": map[string]any{"legacy": map[string]string{"http": "http://127.0.0.1"}}})
	if err != nil {
		return nil, err
	}
	f, err := config.Parse(name, part, os.LookupEnv)
	var errs config.Errors
	if errors.As(err, &errs) && len(errs) > 0 {
		return nil, usage("%s: %s: %s; or give --admin and --token-file", name, errs[0].Path, errs[0].Message)
	}
	return f, err
}

// baseURL completes host:port.
func baseURL(s string) (string, error) {
	if !strings.Contains(s, "://") {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			return "", usage("--admin %q: want http://host:port", s)
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		s = "http://" + net.JoinHostPort(host, port)
	}
	if !strings.HasPrefix(s, "http://") && !strings.HasPrefix(s, "https://") {
		return "", usage("--admin %q: want http://host:port", s)
	}
	return strings.TrimRight(s, "/"), nil
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// call sends one request and decodes the answer into out. A 409 is decoded as well, and told by conflict.
func (c *client) call(ctx context.Context, method, path string, in, out any) (conflict bool, err error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return false, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return false, usage("--admin: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return false, missing("the admin API at %s does not answer: %w\nIs banyan running there? --admin says where to ask.", c.base, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return false, missing("the admin API at %s: %w", c.base, err)
	}
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusConflict {
		if err := json.Unmarshal(b, out); err != nil {
			return false, missing("%s does not speak like banyan's admin API: %w", c.base, err)
		}
		return resp.StatusCode == http.StatusConflict, nil
	}
	return false, refused(resp.StatusCode, c.base, b)
}

// refused makes an answer that is none into an error with what to do.
func refused(status int, base string, body []byte) error {
	var told struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &told) != nil || told.Error == "" {
		told.Error = fmt.Sprintf("%s answers %d %s: is that banyan's admin API?", base, status, http.StatusText(status))
	}
	switch {
	case status == http.StatusUnauthorized:
		return usage("%s does not know this token: give the right one with --token-file", base)
	case status == http.StatusForbidden || status/100 == 3 || status/100 == 4 || status == http.StatusNotImplemented:
		return usage("%s", told.Error)
	}
	return missing("%s", told.Error)
}
