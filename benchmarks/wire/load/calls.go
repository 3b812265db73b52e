package main

import (
	"bytes"
	"math/rand"
	"syscall"
	"time"
)

type state uint8

const (
	none state = iota
	connecting
	silent  // no command has come yet
	talking // one has
)

// call is one connection. seen: its commands so far. stop: the command that is left unanswered at first; 0: none.
type call struct {
	state    state
	stopped  bool
	seen     int
	stop     int
	answered int64 // when the last answer, or the environment, was sent
	serial   int
	unread   []byte
}

// load is all calls; it works in one goroutine, and no call has one of its own.
type load struct {
	epoll   int
	to      syscall.SockaddrInet4
	script  []step
	opening *opening
	calls   []call // by descriptor
	wanted  int    // in progress at a time
	pending int    // at most so many that have not had their first command
	atOnce  int    // at most so many that are not stopped
	stopAt  func(serial int) int
	think   time.Duration

	up, waiting, stopped, serial int
	began                        time.Time
	events                       []syscall.EpollEvent
	buffer                       []byte
	wheel                        [][]int32 // of a millisecond each: answers that are due then
	turned                       int64     // the wheel's next millisecond
	thinking                     int
	cursor                       int // where resume goes on

	measuring    bool
	spin         bool  // never sleep: nobody pays for waking us
	spun         int64 // nanoseconds of waits in which nothing came
	well, failed int
	bad          map[string]int
	commands     int
	total        int       // also of those that are not measured
	next         histogram // from an answer to the next command
	first        histogram // from the environment to the first command
	firstLines   []string
}

func (l *load) now() int64 { return int64(time.Since(l.began)) }

// turn does what is there to do, or waits for it, at most so many milliseconds.
func (l *load) turn(milliseconds int) {
	for l.up < l.wanted && l.waiting < l.pending && l.up-l.stopped < l.atOnce && l.begin() {
	}
	if l.thinking > 0 {
		milliseconds = 1
	}
	if l.spin {
		milliseconds = 0
	}
	before := l.now()
	n := wait(l.epoll, l.events, milliseconds)
	now := l.now()
	if n == 0 && l.measuring {
		l.spun += now - before
	}
	for i := 0; i < n; i++ {
		l.handle(int(l.events[i].Fd), l.events[i].Events, now)
	}
	l.turnWheel(now)
}

// begin dials one more call; false when that cannot be now.
func (l *load) begin() bool {
	l.serial++
	fd, err := dial(l.epoll, l.serial, &l.to)
	if err != nil {
		l.fail(err.Error())
		return false
	}
	c := &l.calls[fd]
	*c = call{state: connecting, serial: l.serial, unread: c.unread[:0]}
	if l.stopAt != nil {
		c.stop = l.stopAt(l.serial)
	}
	l.up++
	l.waiting++
	return true
}

func (l *load) handle(fd int, events uint32, now int64) {
	c := &l.calls[fd]
	if c.state == none {
		return
	}
	if c.state == connecting {
		if events&syscall.EPOLLOUT == 0 || events&syscall.EPOLLERR != 0 {
			l.end(fd, "no connection")
			return
		}
		c.state = silent
		c.answered = l.now()
		if !write(fd, l.opening.of(c.serial)) {
			l.end(fd, "no environment could be sent")
			return
		}
	}
	if events&(syscall.EPOLLIN|syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) == 0 {
		return
	}
	for {
		n, errno := read(fd, l.buffer)
		if errno == syscall.EAGAIN {
			return
		}
		if errno != 0 {
			l.end(fd, "reset")
			return
		}
		if n == 0 {
			if c.seen == len(l.script) && len(c.unread) == 0 {
				l.end(fd, "")
			} else {
				l.end(fd, "closed too early")
			}
			return
		}
		if !l.take(fd, c, l.buffer[:n], now) {
			return
		}
		// A short read has emptied the socket; what comes later is a new edge. A hang-up is one and the same.
		if n < len(l.buffer) && events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP) == 0 {
			return
		}
	}
}

// take reads commands out of what came; false when the call has been given up.
func (l *load) take(fd int, c *call, chunk []byte, now int64) bool {
	end := bytes.IndexByte(chunk, '\n')
	if len(c.unread) == 0 && end == len(chunk)-1 {
		return l.obey(fd, c, chunk[:end], now)
	}
	c.unread = append(c.unread, chunk...)
	end = bytes.IndexByte(c.unread, '\n')
	if end < 0 {
		return true
	}
	if end < len(c.unread)-1 {
		l.end(fd, "did not wait for an answer")
		return false
	}
	line := c.unread[:end]
	c.unread = c.unread[:0]
	return l.obey(fd, c, line, now)
}

func (l *load) obey(fd int, c *call, line []byte, now int64) bool {
	line = bytes.TrimRight(line, "\r ")
	if c.serial == 1 {
		l.firstLines = append(l.firstLines, string(line))
	}
	if c.seen == len(l.script) || c.stopped || !l.script[c.seen].due(line) {
		l.end(fd, "not the command that was due")
		return false
	}
	if c.state == silent {
		c.state = talking
		l.waiting--
		if l.measuring {
			l.first.add(now - c.answered)
		}
	} else if l.measuring {
		l.next.add(now - c.answered)
	}
	c.seen++
	l.total++
	if l.measuring {
		l.commands++
	}
	if c.seen == c.stop {
		c.stopped = true
		l.stopped++
		return true
	}
	if l.think > 0 && l.stopAt == nil { // not on the way to where it stops
		l.later(fd, now)
		return true
	}
	return l.answer(fd, c)
}

func (l *load) answer(fd int, c *call) bool {
	c.answered = l.now()
	if !write(fd, l.script[c.seen-1].answer) {
		l.end(fd, "no answer could be sent")
		return false
	}
	return true
}

// later puts an answer into the wheel: half to one and a half times the time to think from now.
func (l *load) later(fd int, now int64) {
	wait := int64(l.think)/2 + rand.Int63n(int64(l.think)+1)
	due := now/1e6 + 1 + wait/1e6
	slot := due % int64(len(l.wheel))
	l.wheel[slot] = append(l.wheel[slot], int32(fd))
	l.thinking++
}

func (l *load) turnWheel(now int64) {
	for ; l.turned <= now/1e6; l.turned++ {
		slot := l.turned % int64(len(l.wheel))
		for _, fd := range l.wheel[slot] {
			l.thinking--
			if c := &l.calls[fd]; c.state == talking {
				l.answer(int(fd), c)
			}
		}
		l.wheel[slot] = l.wheel[slot][:0]
	}
}

// resume answers calls that were left waiting, at most so many.
func (l *load) resume(most int) {
	l.stopAt = nil
	for ; most > 0 && l.stopped > 0; l.cursor = (l.cursor + 1) % len(l.calls) {
		c := &l.calls[l.cursor]
		if c.state == none || !c.stopped {
			continue
		}
		c.stopped = false
		l.stopped--
		most--
		if l.think > 0 {
			l.later(l.cursor, l.now())
		} else {
			l.answer(l.cursor, c)
		}
	}
}

// end closes a call; why is "" when it has ended well.
func (l *load) end(fd int, why string) {
	c := &l.calls[fd]
	if c.state == connecting || c.state == silent {
		l.waiting--
	}
	if c.stopped {
		l.stopped--
	}
	c.state, c.stopped = none, false
	hangUp(fd)
	l.up--
	if why != "" {
		l.fail(why)
	} else if l.measuring {
		l.well++
	}
}

func (l *load) fail(why string) {
	l.bad[why]++
	l.failed++
}
