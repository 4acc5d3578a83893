// Package system builds and runs what the story is about: banyan's proxies and shadow, and the new service, as processes.
//
// It promises that they get nothing but a configuration file, an environment and signals, as any user's do; that each has
// ports and directories of its own below one directory; and that all are gone after [System.Stop]. What they print is kept
// in files there while the demo runs. It fails with the end of such a file.
package system

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"banyan/cmd/banyan-demo/child"
	"banyan/cmd/banyan-demo/scene"
	"banyan/testdata/game"
)

// System is what runs.
type System struct {
	dir   string
	set   *scene.Set
	token string

	service *Part
	shadow  *Part
	proxies map[string]*Part
	ports   map[string]int // by use, the same at a restart
}

// Part is one running program.
type Part struct {
	Addr  string // where it serves clients; "" if it serves none
	Admin string // http://host:port of its admin listener; "" if it has none
	child *child.Child
}

// Failed tells why the part does not run; nil while it does.
func (p *Part) Failed() error { return p.child.Ended() }

// Repository is where the sources are that this program was built from.
func Repository() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(filepath.Dir(file))))
}

// New builds the programs into dir.
func New(ctx context.Context, dir string, set *scene.Set) (*System, error) {
	s := Unbuilt(dir, set)
	if err := os.MkdirAll(s.Bin(), 0o755); err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", s.Bin()+"/", "./cmd/banyan", "./cmd/gameservice")
	cmd.Dir = Repository()
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, out)
	}
	return s, nil
}

// Unbuilt is a system whose programs are somebody else's to build.
func Unbuilt(dir string, set *scene.Set) *System {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails
	return &System{dir: dir, set: set, token: hex.EncodeToString(b[:]), proxies: map[string]*Part{}, ports: map[string]int{}}
}

// Bin is the directory of the programs.
func (s *System) Bin() string { return filepath.Join(s.dir, "bin") }

// Token is the operator's.
func (s *System) Token() string { return s.token }

// Configure writes a directory with the game's configuration, edited, and gives the file.
func (s *System) Configure(name string, edit func(yaml string) (string, error)) (string, error) {
	dir := filepath.Join(s.dir, name)
	for _, sub := range []string{"contracts", "sql"} {
		if err := os.CopyFS(filepath.Join(dir, sub), os.DirFS(filepath.Join(game.Dir(), sub))); err != nil {
			return "", fmt.Errorf("configuration %s: %w", name, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(game.Dir(), "banyan.yaml"))
	if err != nil {
		return "", fmt.Errorf("configuration %s: %w", name, err)
	}
	text := string(b)
	for _, e := range []func(string) (string, error){here, s.set.Adapt, edit} {
		if e == nil {
			continue
		}
		if text, err = e(text); err != nil {
			return "", fmt.Errorf("configuration %s: %w", name, err)
		}
	}
	file := filepath.Join(dir, "banyan.yaml")
	return file, os.WriteFile(file, []byte(text), 0o644)
}

// here fits the game's configuration to one machine and to minutes instead of days.
func here(text string) (string, error) {
	for _, e := range []struct{ from, to string }{
		{`  admin: "${PROXY_ADMIN}"` + "\n", `  admin: "${PROXY_ADMIN}"` + "\n" + `  token: "${BANYAN_TOKEN}"` + "\n" + `  replica: "${PROXY_REPLICA}"` + "\n"},
		{"\ncontracts: contracts\n", "\ncontracts: contracts\nsettle: { max_clock_error: 5ms } # one machine, one clock\n"},
		{"sweep: { every: 1m,", "sweep: { every: 5s,"},
		{", latency_p99: 1.5x }", " } # without latency_p99, which wants a thousand answers of each route: the story measures both sides itself"},
	} {
		var err error
		if text, err = scene.Replace(text, e.from, e.to, 0); err != nil {
			return "", err
		}
	}
	if !strings.Contains(text, "\n    out_of_scope:") { // columns that legacy writes by itself and that nothing that moves shows
		return scene.Replace(text, "\n  units:\n    candidate: gameservice\n", "\n  units:\n    out_of_scope: [players.last_seen, players.views, players.score, players.settings, provinces.built_at, provinces.client_ref]\n    candidate: gameservice\n", 1)
	}
	return text, nil
}

func (s *System) port(use string) (string, error) {
	if s.ports[use] == 0 {
		port, err := child.FreePort()
		if err != nil {
			return "", err
		}
		s.ports[use] = port
	}
	return child.Loopback(s.ports[use]), nil
}

// Env is the environment in which the configuration of a part is complete.
func (s *System) Env(part string) (map[string]string, error) {
	env := maps.Clone(s.set.Env)
	for name, use := range map[string]string{"PROXY_LISTEN": part, "PROXY_ADMIN": part + " admin", "GAMESERVICE_LISTEN": "service"} {
		addr, err := s.port(use)
		if err != nil {
			return nil, err
		}
		env[name] = addr
	}
	env["LEGACY_HTTP"], env["GAMESERVICE_HTTP"] = s.set.Legacy, "http://"+env["GAMESERVICE_LISTEN"]
	env["KAFKA_PREFIX"], env["KAFKA_PARTITIONS"], env["BANYAN_TOKEN"] = "game", "6", s.token
	env["PROXY_REPLICA"], env["PROXY_JOURNAL"] = part, filepath.Join(s.dir, "journal-"+part)
	env["GAMESERVICE_SQL"] = filepath.Join(game.Dir(), "sql")
	return env, nil
}

func (s *System) start(part, program string, more map[string]string, args ...string) (*Part, error) {
	env, err := s.Env(part)
	if err != nil {
		return nil, err
	}
	maps.Copy(env, more)
	var list []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	c, err := child.Start(child.Spec{Name: part, Path: filepath.Join(s.Bin(), program), Args: args, Env: list, Dir: s.dir, Log: filepath.Join(s.dir, part+".log")})
	if err != nil {
		return nil, err
	}
	return &Part{Addr: env["PROXY_LISTEN"], Admin: "http://" + env["PROXY_ADMIN"], child: c}, nil
}

// StartProxy starts one more proxy and waits until it serves.
func (s *System) StartProxy(ctx context.Context, name, config string) (*Part, error) {
	p, err := s.start(name, "banyan", nil, "proxy", "-c", config)
	if err != nil {
		return nil, err
	}
	s.proxies[name] = p
	return p, p.await(ctx, p.Admin+"/healthz")
}

// StopProxy drains a proxy and returns when all that it took is in Kafka.
func (s *System) StopProxy(name string) error {
	p := s.proxies[name]
	delete(s.proxies, name)
	return p.child.Stop(syscall.SIGTERM, 40*time.Second)
}

// StartShadow starts the consumers and waits until they can be asked.
func (s *System) StartShadow(ctx context.Context, config string) (*Part, error) {
	p, err := s.start("shadow", "banyan", nil, "shadow", "-c", config)
	if err != nil {
		return nil, err
	}
	p.Addr, s.shadow = "", p
	return p, p.await(ctx, p.Admin+"/readyz")
}

// StopShadow ends the consumers: what they did not do is done by the next.
func (s *System) StopShadow() error {
	p := s.shadow
	s.shadow = nil
	return p.child.Stop(syscall.SIGTERM, 40*time.Second)
}

// StartService starts the new service, with the defect that it can be told to have.
func (s *System) StartService(bug bool) error {
	more := map[string]string{"GAMESERVICE_BUG": "0"}
	if bug {
		more["GAMESERVICE_BUG"] = "1"
	}
	var err error
	if s.service, err = s.start("gameservice", "gameservice", more); err != nil {
		return err
	}
	s.service.Addr, s.service.Admin = child.Loopback(s.ports["service"]), ""
	return nil
}

// ServiceReady waits until the service can answer from its read models.
func (s *System) ServiceReady(ctx context.Context) error {
	return s.service.await(ctx, "http://"+s.service.Addr+"/readyz")
}

// StopService ends the new service.
func (s *System) StopService() error {
	p := s.service
	s.service = nil
	return p.child.Stop(syscall.SIGTERM, 30*time.Second)
}

// Failed tells why some part does not run that should.
func (s *System) Failed() error {
	var errs []error
	for _, p := range append(slices.Collect(maps.Values(s.proxies)), s.shadow, s.service) {
		if p != nil {
			errs = append(errs, p.Failed())
		}
	}
	return errors.Join(errs...)
}

// Stop ends everything: proxies first, which drain.
func (s *System) Stop() error {
	var errs []error
	for name := range s.proxies {
		errs = append(errs, s.StopProxy(name))
	}
	if s.shadow != nil {
		errs = append(errs, s.StopShadow())
	}
	if s.service != nil {
		errs = append(errs, s.StopService())
	}
	return errors.Join(errs...)
}

// await asks until the answer is 200.
func (p *Part) await(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	last := "it does not answer"
	for {
		if err := p.Failed(); err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			if resp.StatusCode == http.StatusOK {
				return resp.Body.Close()
			}
			var b [300]byte
			n, _ := resp.Body.Read(b[:])
			last = resp.Status + " " + strings.TrimSpace(string(b[:n]))
			_ = resp.Body.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %s", url, last)
		case <-time.After(30 * time.Millisecond): // it has no other signal
		}
	}
}

// EnvFile writes what a shell needs to speak to the system, and gives the file.
func (s *System) EnvFile() (string, error) {
	file := filepath.Join(s.dir, "env")
	text := fmt.Sprintf("export PATH=%s:$PATH BANYAN_ADMIN=%s BANYAN_TOKEN=%s\n", s.Bin(), s.shadow.Admin, s.token)
	return file, os.WriteFile(file, []byte(text), 0o600)
}

// Path is the file that Configure wrote for a name.
func (s *System) Path(name string) string { return filepath.Join(s.dir, name, "banyan.yaml") }
