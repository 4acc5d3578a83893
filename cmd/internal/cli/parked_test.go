package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banyan/proxy/admin"
	"banyan/proxy/event"
)

type parker struct{ asked []admin.ReleaseRequest }

func (p *parker) Parked(_ context.Context, m event.Migration) ([]admin.Parked, error) {
	n := int64(12)
	return []admin.Parked{{Migration: "units", Generation: 1, Stage: "project", Key: "match/7", Since: time.Date(2026, 11, 20, 14, 3, 11, 0, time.UTC), Position: 6, Waiting: &n,
		Reason: "against\x1b its contract"}}, nil
}

func (p *parker) Release(_ context.Context, r admin.ReleaseRequest) ([]admin.Parked, error) {
	p.asked = append(p.asked, r)
	if !r.All && r.Keys[0] != "match/7" {
		return nil, fmt.Errorf("%w: %s of units is not parked", admin.ErrConflict, r.Keys[0])
	}
	return p.Parked(context.Background(), r.Migration)
}

func TestParkedKeysAreListedAndReleased(t *testing.T) {
	const viewer = "viewer-token-0123456789"
	p := &parker{}
	s, err := admin.New(admin.Config{Tokens: admin.Tokens{Operator: secret, Viewer: viewer}, Parked: p})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.Handler())
	defer web.Close()
	token := func(text string) string {
		f := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	operator, reader := token(secret), token(viewer)
	for _, c := range []struct {
		file, args string
		status     int
		says       string
	}{
		{reader, "list units", 0, "match/7"},
		{reader, "list", 0, "12"},
		{reader, "release units --all --reason x", 2, "may only read"},
		{operator, "release units --key match/7 --reason mended", 0, "match/7 of units, generation 1, is released"},
		{operator, "release units --key match/8 --reason mended", 1, "banyan: match/8 of units is not parked"},
		{operator, "release units --key match/7", 2, "--reason"},
		{operator, "release units --reason x", 2, "--all"},
		{operator, "release units --reason x --all --key match/7", 2, "--all"},
	} {
		var out bytes.Buffer
		err := Run(t.Context(), append([]string{"parked"}, append(strings.Fields(c.args), "--admin", web.URL, "--token-file", c.file)...), strings.NewReader(""), &out, &out)
		if got := Report(&out, err); got != c.status || !strings.Contains(out.String(), c.says) || strings.Contains(out.String(), "\x1b") {
			t.Errorf("%s: status %d, %s", c.args, got, out.String())
		}
	}
	if len(p.asked) != 2 || p.asked[0].Reason != "mended" || p.asked[0].Who == "" {
		t.Fatalf("%+v", p.asked)
	}
	var out bytes.Buffer
	if err := Run(t.Context(), []string{"parked", "list", "-o", "json", "--admin", web.URL, "--token-file", reader}, strings.NewReader(""), &out, &out); err != nil || !json.Valid(out.Bytes()) {
		t.Fatal(err, out.String())
	}
}
