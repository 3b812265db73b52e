// Load plays Asterisk's side of many FastAGI calls at once and says how fast the server's side was.
//
// One thread, one epoll, raw system calls: it must need less for a command than any server does. A call that ends is
// followed by a new one, so that so many are always in progress. Every answer is sent as soon as its command is read, or
// after --think milliseconds.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
)

const (
	mostFailed   = 1000 // calls; there is no need to see more of them
	turns        = 4    // of every call, at the least, before and while it measures, unless the server is very slow
	activeInRamp = 200  // calls on their way to where they stop, or from there: all are to get there, in whatever time
)

type options struct {
	port, calls, pending, pid, core, hold int
	seconds, warm, ramp, settle           float64
	think                                 int
	script                                string
	serve, sleep                          bool
}

func init() { runtime.LockOSThread() } // to the process's first thread, whose times /proc/self tells

func main() {
	var o options
	flag.IntVar(&o.port, "port", 4573, "of the server, on 127.0.0.1")
	flag.IntVar(&o.calls, "calls", 1000, "in progress at a time")
	flag.IntVar(&o.pending, "pending", 1000, "of them without a first command, at most: no listen queue overflows")
	flag.Float64Var(&o.seconds, "seconds", 3, "to measure")
	flag.Float64Var(&o.warm, "warm", 1, "seconds before that, once all calls are up")
	flag.Float64Var(&o.ramp, "ramp", 20, "seconds to have all calls up, at most; then it is given up")
	flag.Float64Var(&o.settle, "settle", 1, "seconds that held calls are left alone before memory is read")
	flag.IntVar(&o.think, "think", 0, "milliseconds before an answer, on average")
	flag.IntVar(&o.hold, "hold", 0, "leave every call waiting at this command, read the memory, let them end")
	flag.IntVar(&o.pid, "pid", 0, "of the server: its processor time and memory are read")
	flag.IntVar(&o.core, "core", 0, "of the server: how busy it is")
	flag.BoolVar(&o.sleep, "sleep", false, "sleep when there is nothing to do; the server then pays for waking us")
	flag.BoolVar(&o.serve, "serve", false, "be the least of all servers instead, to see how much this program can do")
	flag.StringVar(&o.script, "script", "call.json", "the commands of a call")
	flag.Parse()

	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1) // what it allocates in a run is little
	script, err := readScript(o.script)
	if err != nil {
		fatal(err)
	}
	if o.serve {
		fatal(serve(o.port, script))
	}
	l, err := newLoad(&o, script)
	if err != nil {
		fatal(err)
	}
	report := map[string]any{"calls": o.calls}
	if o.hold > 0 {
		hold(l, &o, report)
	} else {
		measure(l, &o, report)
	}
	report["bad"] = l.bad
	report["first_call"] = l.firstLines
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		fatal(err)
	}
	if len(l.bad) > 0 || report["given_up"] != nil {
		os.Exit(1)
	}
}

func newLoad(o *options, script []step) (*load, error) {
	limit := syscall.Rlimit{}
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil, err
	}
	limit.Cur = limit.Max
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &load{
		epoll: epoll, to: syscall.SockaddrInet4{Port: o.port, Addr: [4]byte{127, 0, 0, 1}},
		script: script, opening: newOpening(), calls: make([]call, o.calls+o.pending+64),
		pending: o.pending, atOnce: activeInRamp, think: time.Duration(o.think) * time.Millisecond,
		began: time.Now(), events: make([]syscall.EpollEvent, 512), buffer: make([]byte, 4096),
		wheel: make([][]int32, 2*o.think+64), bad: map[string]int{},
	}, nil
}

// until takes turns as long as it must; false when time is up, or too many calls have ended badly.
func (l *load) until(seconds float64, done func() bool) bool {
	for end := l.now() + int64(seconds*1e9); !done(); l.turn(20) {
		if l.now() > end || l.failed > mostFailed {
			return false
		}
	}
	return true
}

func (l *load) during(seconds float64) { l.until(seconds, func() bool { return false }) }

// measure: all calls up, each stopped at another command, so that they do not march in step; then go.
func measure(l *load, o *options, report map[string]any) {
	var stops []int
	for place := range l.script {
		if l.script[place].long {
			stops = append(stops, place+1)
		}
	}
	l.wanted = o.calls
	l.stopAt = func(serial int) int { return stops[serial%len(stops)] }
	since := l.now()
	if !l.until(o.ramp, func() bool { return l.stopped >= o.calls }) {
		report["given_up"] = l.notUp(o)
		return
	}
	report["ramp_seconds"] = float64(l.now()-since) / 1e9
	l.atOnce = o.calls
	l.resume(o.calls)
	l.during(o.warm)
	turned := l.total + turns*o.calls
	l.until(2*o.warm, func() bool { return l.total >= turned })

	l.measuring = true
	l.spin = !o.sleep && o.think == 0
	without := starved()
	begin, own, server, idle := l.now(), ownCPU(), cpuOf(o.pid), idleOf(o.core)
	last, upSeconds, talkSeconds := begin, 0.0, 0.0
	end, late := begin+int64(o.seconds*1e9), begin+int64(3*o.seconds*1e9)
	for (last < end || (l.commands < turns*o.calls && last < late)) && l.failed <= mostFailed {
		l.turn(20)
		now := l.now()
		upSeconds += float64(l.up) * float64(now-last) / 1e9
		talkSeconds += float64(l.up-l.waiting) * float64(now-last) / 1e9
		last = now
	}
	l.measuring = false
	seconds := float64(last-begin) / 1e9
	own, server, idle = ownCPU()-own, cpuOf(o.pid)-server, idleOf(o.core)-idle
	without = starved() - without
	idleShare := 1 - (own+without)/seconds
	if l.spin { // it turns in vain while nothing comes: that is no work
		idleShare = float64(l.spun) / 1e9 / seconds
		own -= float64(l.spun) / 1e9
	}
	commands := float64(l.commands)
	if commands == 0 {
		report["given_up"] = fmt.Sprintf("no command came within %.1f s", seconds)
		return
	}
	for name, value := range map[string]any{
		"seconds": seconds, "well": l.well, "commands": l.commands, "in_progress": upSeconds / seconds, "talking": talkSeconds / seconds,
		"calls_per_second": commands / seconds / float64(len(l.script)), "ended_per_second": float64(l.well) / seconds,
		"p50_ms": l.next.milliseconds(0.5), "p99_ms": l.next.milliseconds(0.99),
		"max_ms":         float64(l.next.largest) / 1e6,
		"generator_idle": idleShare, "generator_starved": without / seconds,
		"generator_us_per_command": own / commands * 1e6,
		"server_cpu":               server / seconds, "server_us_per_command": server / commands * 1e6,
		"server_core_busy": 1 - idle/seconds, "rss_kb": residentOf(o.pid), "cut": l.up,
	} {
		report[name] = value
	}
	if l.first.count > 0 {
		report["first_p50_ms"], report["first_p99_ms"] = l.first.milliseconds(0.5), l.first.milliseconds(0.99)
	}
}

// hold: a few calls first, so that what a server loads once is there; then the memory without, with and after.
func hold(l *load, o *options, report map[string]any) {
	l.measuring = true
	l.wanted = 32
	l.until(o.ramp, func() bool { return l.well >= 64 })
	l.wanted = 0
	l.until(o.ramp, func() bool { return l.up == 0 })
	l.during(o.settle)
	before := residentOf(o.pid)

	l.wanted = o.calls
	l.well = 0
	l.stopAt = func(int) int { return o.hold }
	if !l.until(o.ramp, func() bool { return l.stopped >= o.calls }) {
		report["given_up"] = l.notUp(o)
		return
	}
	l.during(o.settle)
	held := residentOf(o.pid)

	l.wanted = 0
	l.until(o.ramp, func() bool {
		l.resume(l.atOnce - (l.up - l.stopped))
		return l.up == 0
	})
	l.during(o.settle)
	report["rss_before_kb"], report["rss_held_kb"], report["rss_after_kb"] = before, held, residentOf(o.pid)
	report["kb_per_call"] = float64(held-before) / float64(o.calls)
	report["well"], report["not_ended"] = l.well, l.up
	if l.well != o.calls {
		report["given_up"] = fmt.Sprintf("of %d held calls %d ended well", o.calls, l.well)
	}
}

func (l *load) notUp(o *options) string {
	return fmt.Sprintf("%d of %d calls were up within %.0f s", l.stopped, o.calls, o.ramp)
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "load:", err)
	os.Exit(2)
}
