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
func (b *bench) runHTTP2() error {
	if err := writeCertificate(b.dir); err != nil {
		return err
	}
	peers, absent := b.peers("nginx", "banyan", "bare", "net/http", "caddy", "traefik")
	var names []string
	for _, p := range peers {
		names = append(names, p.name)
	}
	got := map[string][]sample{}
	for round := range b.rounds {
		for i := range peers {
			p := peers[(i+round)%len(peers)]
			for _, w := range works2 {
				s, err := b.measureHTTP2(p, w)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", p.name, w, err)
				}
				got[p.name+" "+w] = append(got[p.name+" "+w], s)
			}
		}
		fmt.Fprintf(os.Stderr, "HTTP/2, round %d of %d\n", round+1, b.rounds)
	}
	fmt.Printf("\nHTTP/2, 32 connections of 4 requests at a time\n")
	for _, a := range absent {
		fmt.Println("absent:", a)
	}
	report(got, works2, names, nil)
	return nil
}

func (b *bench) measureHTTP2(p peer, w string) (s sample, err error) {
	speaks, path := h2Clear, w[len("tls-get"):]
	if w[:3] == "tls" {
		speaks = h2TLS
	}
	cmd, addr, err := b.begin(p, speaks)
	if err != nil {
		return s, err
	}
	defer stop(cmd)
	return load(b.self, b.back, "load2", "-addr", addr, "-pid", strconv.Itoa(cmd.Process.Pid), "-dur", b.dur.String(), "-conns", "32", "-streams", "4",
		"-path", "/"+path, "-want", filepath.Join(b.dir, path), "-tls="+strconv.FormatBool(speaks == h2TLS))
}

func (b *bench) cert() string { return filepath.Join(b.dir, "cert.pem") }
func (b *bench) key() string  { return filepath.Join(b.dir, "key.pem") }

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
