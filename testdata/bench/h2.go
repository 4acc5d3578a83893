package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

var works2 = []string{"h2c-get1k", "tls-get1k", "tls-get64k"}

// runHTTP2 measures requests over HTTP/2, in clear and over TLS.
func runHTTP2(rounds int, dur time.Duration, front, back, self, dir, backend, profile string) error {
	if err := writeCertificate(dir); err != nil {
		return err
	}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	type peer2 struct {
		name string
		cmd  func(addr string, secure bool) []string
	}
	serving := func(command string) func(addr string, secure bool) []string {
		return func(addr string, secure bool) []string {
			args := []string{self, command, "-listen", addr, "-legacy", "http://" + backend}
			if secure {
				args = append(args, "-cert", cert, "-key", key)
			}
			if profile != "" && command == "proxy" {
				args = append(args, "-profile", profile)
			}
			return args
		}
	}
	peers := []peer2{
		{"nginx", func(addr string, secure bool) []string {
			listen, certificate := addr+" http2", ""
			if secure {
				listen, certificate = addr+" ssl http2", "ssl_certificate "+cert+"; ssl_certificate_key "+key+";"
			}
			writePeer(dir, listen, backend, certificate)
			return []string{"nginx", "-p", dir, "-c", filepath.Join(dir, "peer.conf")}
		}},
		{"banyan", serving("proxy")},
		{"net/http", serving("nethttp")},
	}
	got := map[string][]sample{}
	for round := range rounds {
		for i := range peers {
			p := peers[(i+round)%len(peers)]
			for _, w := range works2 {
				secure, path := w[:3] == "tls", w[len("tls-get"):]
				addr, err := freeAddr()
				if err != nil {
					return err
				}
				cmd, err := start(front, addr, p.cmd(addr, secure)...)
				if err != nil {
					return err
				}
				s, err := load(self, back, "load2", "-addr", addr, "-pid", strconv.Itoa(cmd.Process.Pid), "-dur", dur.String(), "-conns", "32", "-streams", "4",
					"-path", "/"+path, "-tls="+strconv.FormatBool(secure))
				stop(cmd)
				if err != nil {
					return fmt.Errorf("%s: %w", p.name, err)
				}
				got[p.name+" "+w] = append(got[p.name+" "+w], s)
			}
		}
		fmt.Fprintf(os.Stderr, "HTTP/2, round %d of %d\n", round+1, rounds)
	}
	fmt.Printf("\nHTTP/2, 32 connections of 4 requests at a time\n")
	report(got, works2, []string{"nginx", "banyan", "net/http"}, "")
	return nil
}

func writeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	kder, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kder}), 0o600))
}

type buffers struct{ p sync.Pool }

func (b *buffers) Get() []byte {
	if v, ok := b.p.Get().(*[]byte); ok {
		return *v
	}
	return make([]byte, 32<<10)
}

func (b *buffers) Put(v []byte) { b.p.Put(&v) }

// serveNetHTTP is what Go's library offers, with enough idle connections and buffers that are used again.
func serveNetHTTP(args []string) error {
	fs := flag.NewFlagSet("nethttp", flag.ContinueOnError)
	listen := fs.String("listen", "", "")
	legacy := fs.String("legacy", "", "")
	cert := fs.String("cert", "", "")
	key := fs.String("key", "", "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	u, err := url.Parse(*legacy)
	if err != nil {
		return err
	}
	s := &http.Server{Addr: *listen, Protocols: new(http.Protocols), TLSConfig: &tls.Config{DynamicRecordSizingDisabled: true},
		Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u); r.SetXForwarded() },
			BufferPool: &buffers{}, Transport: &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, DisableCompression: true}}}
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	s.Protocols.SetHTTP1(true)
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	go func() { <-ctx.Done(); s.Close() }()
	if *cert != "" {
		err = s.ListenAndServeTLS(*cert, *key)
	} else {
		err = s.ListenAndServe()
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
