package role

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"banyan/testdata/lab"
)

// webSocket is a client of RFC 6455, as far as these tests need one.
type webSocket struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// shake asks for a switch, and gives the status that came.
func shake(t *testing.T, nc net.Conn, path, version string) (*webSocket, int) {
	t.Helper()
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(time.Minute))
	w := &webSocket{t, nc, bufio.NewReader(nc)}
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: game.test\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nOrigin: http://game.test\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: %s\r\n\r\n", path, key, version)
	head := w.head()
	status := 0
	fmt.Sscanf(head, "HTTP/1.1 %d", &status)
	if status == 101 {
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		for _, want := range []string{"\r\nSec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n", "\r\nUpgrade: websocket\r\n", "\r\nConnection: Upgrade\r\n"} {
			if !strings.Contains(head, want) {
				t.Errorf("%q lacks %q", head, want)
			}
		}
	}
	return w, status
}

func (w *webSocket) head() string {
	var b strings.Builder
	for {
		l, err := w.r.ReadString('\n')
		b.WriteString(l)
		if err != nil || l == "\r\n" {
			return b.String()
		}
	}
}

// body reads the answer's head and body, of known length.
func (w *webSocket) body() string {
	n := 0
	for l := range strings.SplitSeq(w.head(), "\r\n") {
		fmt.Sscanf(l, "Content-Length: %d", &n)
	}
	b := make([]byte, n)
	io.ReadFull(w.r, b)
	return string(b)
}

// say sends a frame, masked as a client has to.
func (w *webSocket) say(op byte, data []byte) {
	b := []byte{0x80 | op}
	switch n := len(data); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i, c := range data {
		b = append(b, c^mask[i%4])
	}
	if _, err := w.Write(b); err != nil {
		w.t.Error(err)
	}
}

// hear reads a frame; op is 0 at the connection's end.
func (w *webSocket) hear() (op byte, data []byte) {
	var h [2]byte
	if _, err := io.ReadFull(w.r, h[:]); err != nil {
		return 0, []byte(err.Error())
	}
	n := uint64(h[1])
	switch n {
	case 126:
		var b [2]byte
		io.ReadFull(w.r, b[:])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		io.ReadFull(w.r, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	data = make([]byte, n)
	if _, err := io.ReadFull(w.r, data); err != nil {
		w.t.Error(err)
	}
	return h[0] & 15, data
}

// echoes says something and expects to hear it.
func (w *webSocket) echoes(size int) {
	w.t.Helper()
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
	go w.say(opText, data) // what is large comes back before it was taken whole
	if op, got := w.hear(); op != opText || !bytes.Equal(got, data) {
		w.t.Errorf("%d bytes: heard %d, %d bytes: %.60q", size, op, len(got), got)
	}
}

// A game with a WebSocket server of PHP beside its pages: where the file declares it, connections switch; elsewhere the
// same requests are plain ones.
func TestWebSocketOfPHP(t *testing.T) {
	php := lab.PHPScript(t, "testdata/websocket.php")
	legacy := newSite(t, "legacy")
	dir := t.TempDir()
	writeCertificate(t, dir, "site.test", time.Now().Add(time.Hour))
	text := func(upgrade string) string {
		return fmt.Sprintf(`version: 1
proxy:
  listen: "127.0.0.1:0"
  admin: "127.0.0.1:0"
  token: abcdefghijklmnopqrstuvwxyz0123456789
  tls: { listen: "localhost:0", certificates: [{ cert: %s/site.pem, key: %[1]s/site.key }] }
upstreams: { legacy: { http: %q }, chat: { http: [%q, %q], sticky: { cookie: PHPSESSID } } }
routes:
  - { name: chat, match: { path: /chat }, to: chat%s }
  - { name: plain, match: { path: /plain }, to: chat }
`, dir, legacy.URL, php.URL, strings.Replace(php.URL, "127.0.0.1", "localhost", 1), upgrade)
	}
	r := newReloading(t, text(", upgrade: websocket"))
	dial := func() net.Conn {
		nc, err := net.Dial("tcp", r.Proxy.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return nc
	}
	active := func() (n int) {
		for _, i := range r.Proxy.Balancers()["chat"].Instances {
			n += i.Active
		}
		return n
	}

	open, status := shake(t, dial(), "/chat", "13")
	if status != 101 {
		t.Fatal(status)
	}
	if op, data := open.hear(); op != opText || string(data) != "welcome" {
		t.Errorf("%d %q", op, data)
	}
	for _, size := range []int{0, 1, 125, 126, 70_000, 3 << 20} {
		open.echoes(size)
	}
	open.say(opPing, []byte("p"))
	if op, data := open.hear(); op != opPong || string(data) != "p" {
		t.Errorf("%d %q", op, data)
	}
	if n := active(); n != 1 {
		t.Errorf("%d requests under way at the instances; the connection is one", n)
	}

	nc, err := tls.Dial("tcp", r.Proxy.tls.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	secure, status := shake(t, nc, "/chat", "13")
	if op, data := secure.hear(); status != 101 || op != opText {
		t.Fatal(status, op, data)
	}
	secure.echoes(1 << 20)
	secure.say(opClose, []byte{3, 232})
	if op, data := secure.hear(); op != opClose || !bytes.Equal(data, []byte{3, 232}) {
		t.Errorf("%d %q", op, data)
	}
	if op, data := secure.hear(); op != 0 || string(data) != "EOF" {
		t.Errorf("%d %q", op, data)
	}

	// Where it is not declared, and where the server refuses, the connection goes on as HTTP.
	refused, status := shake(t, dial(), "/chat", "7")
	if status != 426 {
		t.Errorf("status %d", status)
	}
	fmt.Fprintf(refused, "GET /plain HTTP/1.1\r\nHost: game.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	if got := refused.body(); got != "upgrade= connection=" {
		t.Errorf("the PHP of a route that says nothing of it saw %q", got)
	}
	if _, status := shake(t, dial(), "/elsewhere", "13"); status != 200 {
		t.Errorf("legacy, which no route names: %d", status)
	}

	// What is open goes on as it began when the file says otherwise.
	r.to(text(""))
	if _, status := shake(t, dial(), "/chat", "13"); status != 200 {
		t.Errorf("no longer declared: %d", status)
	}
	open.echoes(1000)
	r.to(text(", upgrade: [websocket]"))
	again, status := shake(t, dial(), "/chat", "13")
	if status != 101 {
		t.Errorf("declared again: %d", status)
	}
	again.hear()

	// A stop waits for as long as it may, and then ends both sides.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second) // longer than idle connections stay
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- r.Stop(ctx) }()
	again.echoes(10)
	for _, w := range []*webSocket{open, again} {
		if op, data := w.hear(); op != 0 || string(data) != "EOF" {
			t.Errorf("%d %q", op, data)
		}
	}
	if err := <-stopped; err != nil {
		t.Errorf("open WebSockets are no error of a stop: %v", err)
	}
	if ctx.Err() == nil {
		t.Error("it did not wait")
	}
}

// The journal is sealed though a WebSocket took all of the drain's time.
func TestWebSocketLeavesTimeForTheJournal(t *testing.T) {
	chat, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer chat.Close()
	go func() { // ends with the listener
		for {
			c, err := chat.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				r := bufio.NewReader(c)
				for l, err := r.ReadString('\n'); l != "\r\n" && err == nil; l, err = r.ReadString('\n') {
				}
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
				io.Copy(io.Discard, r)
			}()
		}
	}()
	for range 3 { // it failed every other time
		f := parse(t, strings.NewReplacer("path: /new }", "path: /new }, upgrade: websocket", "http://127.0.0.1:2", "http://"+chat.Addr().String(), "/j", t.TempDir()).Replace(migrated))
		p, err := StartProxy(t.Context(), f, Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		nc, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(nc, "GET /new HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		if l, err := bufio.NewReader(nc).ReadString('\n'); err != nil || !strings.Contains(l, " 101 ") {
			t.Fatal(l, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		nc.Close()
	}
}

func TestUpgradeTimeoutIsTheFiles(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 10 * time.Minute, "upgrade_timeout: 7s, ": 7 * time.Second} {
		cfg, err := limits(parse(t, strings.Replace(migrated, "limits: { ", "limits: { "+text, 1)))
		if err != nil || cfg.UpgradeTimeout != want {
			t.Errorf("%q: %v, %v", text, cfg.UpgradeTimeout, err)
		}
	}
}
