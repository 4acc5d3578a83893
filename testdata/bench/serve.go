package main

import (
	"context"
	"crypto/tls"
	"flag"
	"os"
	"os/signal"
	"runtime/pprof"
	"time"

	"banyan/proxy"
	"banyan/proxy/certs"
	"banyan/proxy/upstream"
)

// serve is banyan's request path with nothing configured.
func serve(args []string) error {
	fs := flag.NewFlagSet("proxy", flag.ContinueOnError)
	listen := fs.String("listen", "", "")
	legacy := fs.String("legacy", "", "")
	cert := fs.String("cert", "", "")
	key := fs.String("key", "", "")
	profile := fs.String("profile", "", "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	up, err := upstream.New(upstream.Config{Name: "legacy", URL: *legacy})
	if err != nil {
		return err
	}
	defer up.Close()
	s, err := proxy.NewServer(proxy.Config{}, &proxy.Passthrough{Upstream: up}, nil, nil)
	if err != nil {
		return err
	}
	l, err := proxy.Listen(*listen)
	if err != nil {
		return err
	}
	if *cert != "" {
		store, err := certs.New(certs.Config{Pairs: []certs.Pair{{Cert: *cert, Key: *key}}}, nil)
		if err != nil {
			return err
		}
		l = tls.NewListener(l, store.Config())
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	go s.Serve(l)
	<-ctx.Done()
	ctx, cancel = context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return s.Shutdown(ctx)
}
