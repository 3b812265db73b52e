package main

import (
	"bufio"
	"encoding/json"
	"os"
	"sync"
	"time"
)

// One order a line on standard input, one answer a line on standard output, in turn:
//
//	(at first)                                                       {"gateway": "http://…"}
//	{"do": "run", "server": …, "calls": 64, "seconds": 10, …}        the figures, once all calls have ended
//	{"do": "hold", "name": "a", "server": …, "calls": 1000,
//	 "at": ["enter-card", "pay"]}                                    {"held": 1000, …} once each is where it is held
//	{"do": "release", "name": "a", "calls": 64}                      the figures, once all have ended; calls: so
//	                                                                 many go on at once, 0: all

// hold is a crowd of calls that wait, each at its gate.
type hold struct {
	free  chan struct{} // one for each that may go on; closed: all may
	held  int
	ended chan *call
	calls []*call
}

// gate is where one call waits.
type gate struct {
	there chan struct{} // closed once it is there, or has ended before
	once  sync.Once
	came  bool
	free  <-chan struct{}
}

func (g *gate) wait() {
	g.once.Do(func() { g.came = true; close(g.there) })
	<-g.free
}

func (g *gate) missed() { g.once.Do(func() { close(g.there) }) }

func obeyLines(b *bank) {
	out := json.NewEncoder(os.Stdout)
	_ = out.Encode(map[string]string{"gateway": b.url()})
	held := map[string]*hold{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		o := order{Amount: 1_250_000}
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			_ = out.Encode(map[string]string{"error": err.Error()})
			continue
		}
		switch o.Do {
		case "run":
			_ = out.Encode(run(b, o))
		case "hold":
			since := time.Now()
			h := startHold(b, o)
			held[o.Name] = h
			_ = out.Encode(map[string]any{"held": h.held, "seconds": time.Since(since).Seconds()})
		case "release":
			h := held[o.Name]
			delete(held, o.Name)
			_ = out.Encode(h.release(b, o))
		default:
			_ = out.Encode(map[string]string{"error": "do: run, hold or release"})
		}
	}
}

// startHold begins calls, some at a time, until each has come to its place, or to its end.
func startHold(b *bank, o order) *hold {
	const atOnce = 64
	h := &hold{free: make(chan struct{}), ended: make(chan *call, o.Calls)}
	b.delay.Store(0)
	b.otpDelay.Store(0)
	room := make(chan struct{}, atOnce)
	for n := 0; n < o.Calls; n++ {
		room <- struct{}{}
		c := newCall(o.Amount)
		c.place, c.gate = o.At[n%len(o.At)], &gate{there: make(chan struct{}), free: h.free}
		h.calls = append(h.calls, c)
		b.expect(c)
		go func() {
			c.live(o.Server)
			c.gate.missed()
			h.ended <- c
		}()
		go func() {
			<-c.gate.there
			<-room
		}()
	}
	for _, c := range h.calls {
		<-c.gate.there
		if c.gate.came {
			h.held++
		}
	}
	return h
}

// release lets them go on, so many at once, and waits for the last one's end.
func (h *hold) release(b *bank, o order) figures {
	b.delay.Store(o.DelayMs * int64(time.Millisecond))
	wrong, used, since := b.wrong.Load(), cpu(), time.Now()
	done := make(chan struct{})
	waking := watchWaking(done)
	free := h.held
	if o.Calls == 0 || o.Calls > free {
		close(h.free)
		free = 0
	}
	for n := 0; n < o.Calls && free > 0; n++ {
		h.free <- struct{}{}
		free--
	}
	for range h.calls {
		b.forget(<-h.ended)
		if free > 0 {
			h.free <- struct{}{}
			free--
		}
	}
	seconds := time.Since(since).Seconds()
	close(done)
	found := summarise(h.calls, seconds, b.wrong.Load()-wrong)
	spent := cpu() - used
	found.Generator = generator{Cpu: spent, Share: spent / seconds, Wake: <-waking, InFlight: int64(len(h.calls))}
	return found
}
