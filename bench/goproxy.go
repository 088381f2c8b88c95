// A TLS reverse proxy of Go's standard library: goproxy LISTEN BACKEND CERT KEY.
// The stand-in for what is written in a page of Go, with what an expert would add: HTTP/1.1 alone, and a pool of
// connections to the backend that is as large as the load.
package main

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
)

func main() {
	listen, backend, cert, key := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: backend})
	proxy.Transport = &http.Transport{MaxIdleConns: 0, MaxIdleConnsPerHost: 1024, DisableCompression: true}
	server := &http.Server{
		Addr:         listen,
		Handler:      proxy,
		ErrorLog:     log.New(io.Discard, "", 0), // the others say nothing of a client that leaves, either
		TLSConfig:    &tls.Config{MinVersion: tls.VersionTLS12},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	log.Fatal(server.ListenAndServeTLS(cert, key))
}
