// load plays both ends that a call through ivr-agi has, in one process: Asterisk with its callers, and the
// gateway's stand-in. So what passes between a caller's last key and the request at the gateway is read from
// one clock. It prints JSON; milliseconds, seconds where it says so.
//
//	load --server 127.0.0.1:4573 --gateway 127.0.0.1:8900 --calls 64 --seconds 10             closed loop
//	load --server 127.0.0.1:4573 --gateway 127.0.0.1:8900 --rate 75 --seconds 10 --delay 3s   open loop
//	load --control      one command a line on standard input; see control.go
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// order is what is to be done: a flag each, or a line of control's.
type order struct {
	Do      string   `json:"do"`
	Server  string   `json:"server"`
	Calls   int      `json:"calls"`   // at once; with rate: none beyond these
	Rate    float64  `json:"rate"`    // calls a second, as they come; 0: a new one as soon as one has ended
	Seconds float64  `json:"seconds"` // in which calls begin
	Total   int      `json:"total"`   // of calls; 0: as many as fit in
	DelayMs int64    `json:"delay_ms"`
	OtpMs   int64    `json:"otp_delay_ms"`
	Amount  int      `json:"amount"` // rials
	At      []string `json:"at"`     // hold: where; call n at the nth of them, and around
	Name    string   `json:"name"`   // of what is held
	Keep    bool     `json:"keep"`   // go on when no connection is to be had
}

func main() {
	runtime.GOMAXPROCS(1) // one core is ours
	debug.SetGCPercent(400)
	rand.Seed(time.Now().UnixNano())
	var all syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &all) == nil {
		all.Cur = all.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &all)
	}
	given := order{}
	control := flag.Bool("control", false, "read what to do from standard input")
	gateway := flag.String("gateway", "127.0.0.1:0", "where the gateway's stand-in listens")
	flag.StringVar(&given.Server, "server", "127.0.0.1:4573", "the FastAGI server, waited for, 60 s; or several, as of one name: A,B")
	flag.IntVar(&given.Calls, "calls", 64, "calls at once; with --rate, none beyond these")
	flag.Float64Var(&given.Rate, "rate", 0, "calls a second, Poisson; 0: a closed loop")
	flag.Float64Var(&given.Seconds, "seconds", 10, "in which calls begin")
	flag.IntVar(&given.Total, "total", 0, "calls in all; 0: as many as fit in")
	flag.IntVar(&given.Amount, "amount", 1_250_000, "rials")
	delay := flag.Duration("delay", 0, "until pay is answered")
	otp := flag.Duration("otp-delay", 0, "until otp-v2 is answered")
	flag.Parse()

	b, err := openBank(*gateway)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if *control {
		obeyLines(b)
		return
	}
	fmt.Fprintln(os.Stderr, "gateway:", b.url())
	given.DelayMs, given.OtpMs = delay.Milliseconds(), otp.Milliseconds()
	if !await(given.Server, time.Minute) {
		fmt.Fprintln(os.Stderr, "nobody listens on", given.Server)
		os.Exit(2)
	}
	found := run(b, given)
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	_ = out.Encode(found)
	if found.Calls == 0 || found.Status["PAID"] != found.Calls || found.Miscounted+int(found.Wrong) > 0 {
		os.Exit(1)
	}
}

func await(server string, most time.Duration) bool {
	first := strings.Split(server, ",")[0]
	for until := time.Now().Add(most); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if wire, err := net.Dial("tcp", first); err == nil {
			_ = wire.Close()
			return true
		}
	}
	return false
}

// run has calls made, and waits for the last one's end.
func run(b *bank, o order) figures {
	b.delay.Store(o.DelayMs * int64(time.Millisecond))
	b.otpDelay.Store(o.OtpMs * int64(time.Millisecond))
	var (
		mu             sync.Mutex
		calls          []*call
		late           []int64
		underway, most atomic.Int64
		stop           atomic.Bool
		waiting        sync.WaitGroup
	)
	one := func() {
		c := newCall(o.Amount)
		if n := underway.Add(1); n > most.Load() {
			most.Store(n)
		}
		b.expect(c)
		c.live(o.Server)
		b.forget(c)
		underway.Add(-1)
		if c.refused && !o.Keep { // it drains, or is no more
			stop.Store(true)
		}
		mu.Lock()
		calls = append(calls, c)
		mu.Unlock()
	}
	wrong, used, since := b.wrong.Load(), cpu(), time.Now()
	done := make(chan struct{})
	waking := watchWaking(done)
	until := since.Add(time.Duration(o.Seconds * float64(time.Second)))
	var left atomic.Int64
	left.Store(int64(o.Total))
	more := func() bool {
		return !stop.Load() && time.Now().Before(until) && (o.Total == 0 || left.Add(-1) >= 0)
	}
	if o.Rate > 0 {
		for next := since; more(); {
			next = next.Add(time.Duration(rand.ExpFloat64() / o.Rate * float64(time.Second)))
			if next.After(until) {
				break
			}
			time.Sleep(time.Until(next))
			late = append(late, int64(time.Since(next)))
			waiting.Add(1)
			go func() { defer waiting.Done(); one() }()
		}
	} else {
		for n := 0; n < o.Calls; n++ {
			waiting.Add(1)
			go func() {
				defer waiting.Done()
				for more() {
					one()
				}
			}()
		}
	}
	waiting.Wait()
	seconds := time.Since(since).Seconds()
	close(done)
	found := summarise(calls, seconds, b.wrong.Load()-wrong)
	spent := cpu() - used
	found.Generator = generator{spent, spent / seconds, measure(late), <-waking, most.Load()}
	return found
}
