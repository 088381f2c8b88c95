// What wrk cannot do, with the standard library alone:
//
//	load check|handshakes|resumed|download|upload|hold|rate [flags]   the client's side, through TLS
//	load sink -listen ADDR                                            a plain server that reads and counts what is posted
//
// A client prepares what is not to be measured (connections, tickets), prints "ready", waits for a line on stdin, does
// its work, and prints one line of JSON. `hold` takes a number on each line, opens connections until it has that many,
// and keeps them until stdin ends. Every connection must be TLS 1.3 with AES-128-GCM over X25519, else it is an error.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	addr    = flag.String("addr", "", "the proxy under test")
	ca      = flag.String("ca", "", "its certificate")
	count   = flag.Int64("n", 1, "how many handshakes, or bytes")
	lanes   = flag.Int("c", 8, "connections at a time")
	rps     = flag.Float64("rps", 1000, "requests per second, of all connections together")
	seconds = flag.Float64("seconds", 1, "how long")
	listen  = flag.String("listen", "", "where a server listens")
	stdin   = bufio.NewScanner(os.Stdin)
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("load: which part?")
	}
	part := os.Args[1]
	if err := flag.CommandLine.Parse(os.Args[2:]); err != nil {
		log.Fatal(err)
	}
	switch part {
	case "check":
		check()
	case "handshakes":
		handshakes(false)
	case "resumed":
		handshakes(true)
	case "download":
		download()
	case "upload":
		upload()
	case "hold":
		hold()
	case "rate":
		rate()
	case "sink":
		sink()
	default:
		log.Fatalf("load: no part %q", part)
	}
}

func must(err error) {
	if err != nil {
		log.Fatalf("load: %v", err)
	}
}

// ready says so, and waits for the word to begin.
func ready() {
	fmt.Println("ready")
	if !stdin.Scan() {
		os.Exit(1)
	}
}

func tell(figures map[string]any) { must(json.NewEncoder(os.Stdout).Encode(figures)) }

// --- connections -----------------------------------------------------------------------------------------------------

func config(cache tls.ClientSessionCache) *tls.Config {
	pem, err := os.ReadFile(*ca)
	must(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.X25519}, ClientSessionCache: cache}
}

func dial(settings *tls.Config) (*tls.Conn, error) {
	conn, err := tls.Dial("tcp", *addr, settings)
	if err != nil {
		return nil, err
	}
	if suite := conn.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		return nil, fmt.Errorf("cipher %s", tls.CipherSuiteName(suite))
	}
	return conn, nil
}

const small = "GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n"

// asked sends a small request and takes its whole answer; buffer is scratch space.
func asked(conn net.Conn, buffer []byte) error {
	if _, err := io.WriteString(conn, small); err != nil {
		return err
	}
	return answered(conn, buffer)
}

func answered(conn net.Conn, buffer []byte) error {
	have := 0
	for {
		n, err := conn.Read(buffer[have:])
		if err != nil {
			return err
		}
		have += n
		text := string(buffer[:have])
		if end := strings.Index(text, "\r\n\r\n"); end >= 0 && have >= end+4+len(body) {
			if !strings.HasPrefix(text, "HTTP/1.1 200") || text[end+4:] != body {
				return fmt.Errorf("answered %q", text)
			}
			return nil
		}
	}
}

const body = "Hello from behind the proxy.\n"

// --- the parts -------------------------------------------------------------------------------------------------------

// check: one request is answered as it should be, over the connection that every proxy must give.
func check() {
	conn, err := dial(config(nil))
	must(err)
	buffer := make([]byte, 4096)
	must(asked(conn, buffer))
	must(asked(conn, buffer)) // and the connection is kept
	tell(map[string]any{"ok": true})
}

// greet makes one connection that does nothing but shake hands: its client says goodbye and waits for the other's, so that the
// tickets are sent and read.
func greet(settings *tls.Config) (resumed bool, err error) {
	conn, err := dial(settings)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	must(conn.CloseWrite())
	must(conn.SetReadDeadline(time.Now().Add(10 * time.Second)))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil || os.IsTimeout(err) {
		return false, fmt.Errorf("no goodbye but %d bytes, %v", n, err)
	}
	return conn.ConnectionState().DidResume, nil
}

func handshakes(resume bool) {
	settings := make([]*tls.Config, *lanes)
	for i := range settings {
		settings[i] = config(nil)
		if resume {
			settings[i].ClientSessionCache = tls.NewLRUClientSessionCache(1)
			_, err := greet(settings[i])
			must(err)
		}
	}
	ready()
	var left, resumed atomic.Int64
	left.Store(*count)
	began := time.Now()
	var all sync.WaitGroup
	for _, each := range settings {
		all.Add(1)
		go func(settings *tls.Config) {
			defer all.Done()
			for left.Add(-1) >= 0 {
				did, err := greet(settings)
				must(err)
				if did {
					resumed.Add(1)
				}
			}
		}(each)
	}
	all.Wait()
	tell(map[string]any{"count": *count, "resumed": resumed.Load(), "seconds": time.Since(began).Seconds()})
}

func download() {
	conn, err := dial(config(nil))
	must(err)
	must(asked(conn, make([]byte, 4096)))
	ready()
	began := time.Now()
	fmt.Fprintf(conn, "GET /zeros HTTP/1.1\r\nHost: localhost\r\n\r\n")
	answer, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<16), nil)
	must(err)
	n, err := io.CopyBuffer(onlyWriter{io.Discard}, answer.Body, make([]byte, 1<<16))
	must(err)
	tell(map[string]any{"status": answer.StatusCode, "bytes": n, "seconds": time.Since(began).Seconds()})
}

// onlyWriter hides ReadFrom, so that the copy uses the buffer that it is given.
type onlyWriter struct{ io.Writer }

func upload() {
	conn, err := dial(config(nil))
	must(err)
	must(asked(conn, make([]byte, 4096)))
	ready()
	began := time.Now()
	fmt.Fprintf(conn, "POST /sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", *count)
	zeros := make([]byte, 1<<16)
	for left := *count; left > 0; left -= int64(len(zeros)) {
		if left < int64(len(zeros)) {
			zeros = zeros[:left]
		}
		_, err := conn.Write(zeros)
		must(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(err)
	text, err := io.ReadAll(answer.Body)
	must(err)
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	must(err)
	tell(map[string]any{"status": answer.StatusCode, "bytes": n, "seconds": time.Since(began).Seconds()})
}

// hold opens connections and keeps them idle: each has shaken hands and has had one answer.
func hold() {
	settings := config(nil)
	var held []net.Conn
	fmt.Println("ready")
	for stdin.Scan() {
		wanted, err := strconv.Atoi(stdin.Text())
		must(err)
		made := make(chan net.Conn)
		var left atomic.Int64
		left.Store(int64(wanted - len(held)))
		for i := 0; i < *lanes; i++ {
			go func() {
				buffer := make([]byte, 4096)
				for left.Add(-1) >= 0 {
					conn, err := dial(settings)
					must(err)
					must(asked(conn, buffer))
					made <- conn
				}
			}()
		}
		for len(held) < wanted {
			held = append(held, <-made)
		}
		tell(map[string]any{"held": len(held)})
	}
}

// rate sends at fixed times whatever the answers do; a latency counts from the time at which its request was due.
func rate() {
	runtime.GOMAXPROCS(4)  // on one processor: the sleep below must not keep the readers from theirs
	debug.SetGCPercent(-1) // nor must a collection
	settings := config(nil)
	due := make([]chan time.Time, *lanes)
	took := make([][]float64, *lanes)
	var all sync.WaitGroup
	for i := range due {
		conn, err := dial(settings)
		must(err)
		buffer := make([]byte, 4096)
		must(asked(conn, buffer))
		due[i] = make(chan time.Time, 1<<16)
		all.Add(1)
		go func(i int) {
			defer all.Done()
			for at := range due[i] {
				must(asked(conn, buffer))
				took[i] = append(took[i], float64(time.Since(at).Nanoseconds())/1000)
			}
		}(i)
	}
	ready()
	runtime.LockOSThread() // Go's own timers wake up in whole milliseconds
	total := int(*rps * *seconds)
	began := time.Now()
	for i := 0; i < total; i++ {
		at := began.Add(time.Duration(float64(i) / *rps * 1e9))
		if wait := time.Until(at); wait > 0 {
			pause := syscall.NsecToTimespec(wait.Nanoseconds())
			_ = syscall.Nanosleep(&pause, nil)
		}
		due[i%*lanes] <- at
	}
	for i := range due {
		close(due[i])
	}
	all.Wait()
	var every []float64
	for _, some := range took {
		every = append(every, some...)
	}
	sort.Float64s(every)
	at := func(share float64) float64 { return every[int(share*float64(len(every)-1))] }
	tell(map[string]any{"count": len(every), "p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999)})
}

// --- behind the proxies ----------------------------------------------------------------------------------------------

func sink() {
	must(http.ListenAndServe(*listen, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.CopyBuffer(onlyWriter{io.Discard}, r.Body, make([]byte, 1<<16))
		if err == nil {
			fmt.Fprintln(w, n)
		}
	})))
}
