package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Asterisk's side of one FastAGI call, and a caller who pays: each command is answered at once, as if every
// sound were empty and every key pressed already. So whatever time passes is the server's.

const (
	music     = "ivr-agi" // a class; of no meaning here
	callLimit = 20 * time.Minute
	atBank    = "pay" // a place to be held at that is no question
)

var (
	banks   = []string{"603799", "610433", "589210", "627353", "621986", "502229", "639347", "627412"}
	begun   = time.Now()
	prefix  = fmt.Sprintf("B%x", begun.UnixMilli()) // no order of an earlier run comes again
	numbers atomic.Int64
)

// now is a reading of the monotonic clock, in nanoseconds; never 0.
func now() int64 { return int64(time.Since(begun)) + 1 }

// call is one call from its dialling to its end. Times by now(), 0 for what has not happened.
type call struct {
	order, pan, number string
	amount             int
	place              string // the question, or atBank, at which it is held; "" for none
	gate               *gate

	mu  sync.Mutex
	pin string // as the SMS has it; "" once used

	otpAsked, otpAnswered, payAsked, payAnswered atomic.Int64
	pays, charges                                atomic.Int32

	dialled, first   int64 // connecting; the first command
	cardKeyed        int64
	pinKeyed         int64
	afterOtp         int64 // the first command after the answer of otp-v2
	afterPay         int64
	ended            int64
	commands         int
	status, lostWhen string
	refused          bool    // no connection
	steps            []int64 // from our answer to the next command, while nobody waits for the bank
}

// newCall makes a caller, an order and a card that nobody has had before.
func newCall(amount int) *call {
	n := numbers.Add(1)
	return &call{
		order:  fmt.Sprintf("%s-%d", prefix, n),
		pan:    card(int(n)),
		number: fmt.Sprintf("0912%07d", (begun.UnixMilli()+n*7919)%10_000_000),
		amount: amount,
	}
}

// card is a valid number: a bank's prefix, nine digits, and Luhn's.
func card(n int) string {
	body := banks[n%len(banks)] + fmt.Sprintf("%09d", (n*104_729+int(begun.Unix()))%1_000_000_000)
	sum := 0
	for place, digit := range body {
		value := int(digit - '0')
		if place%2 == 0 { // every second from the right, of sixteen
			if value *= 2; value > 9 {
				value -= 9
			}
		}
		sum += value
	}
	return body + string(rune('0'+(10-sum%10)%10))
}

func (c *call) mobile() string { return "+98" + c.number[1:] }

func (c *call) newPin() {
	c.mu.Lock()
	c.pin = fmt.Sprintf("%06d", rand.Intn(1_000_000))
	c.mu.Unlock()
}

func (c *call) readPin() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pin
}

// usePin says whether this is the PIN that was sent last, and has not been used.
func (c *call) usePin(pin string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	fits := pin != "" && pin == c.pin
	if fits {
		c.pin = ""
	}
	return fits
}

func (c *call) environment(server string) string {
	return fmt.Sprintf("agi_network: yes\nagi_network_script: pay?amount=%[2]d&order_id=%[3]s\n"+
		"agi_request: agi://%[1]s/pay?amount=%[2]d&order_id=%[3]s\nagi_channel: PJSIP/trunk-%08[5]x\n"+
		"agi_language: fa\nagi_type: PJSIP\nagi_uniqueid: %[6]d.%[5]d\nagi_version: 22.10.1\n"+
		"agi_callerid: %[4]s\nagi_calleridname: unknown\nagi_callingpres: 0\nagi_callingani2: 0\n"+
		"agi_callington: 0\nagi_callingtns: 0\nagi_dnid: 700\nagi_rdnis: unknown\nagi_context: pay\n"+
		"agi_extension: 700\nagi_priority: 3\nagi_enhanced: 0.0\nagi_accountcode: \n"+
		"agi_threadid: 140211358779072\n\n",
		server, c.amount, c.order, c.number, numbers.Load(), begun.Unix())
}

// dial connects to one of the addresses, which stand for those of one name; as Asterisk does, it goes on to
// the next when one refuses. Which it begins with differs from call to call.
func dial(servers, number string) (wire net.Conn, err error) {
	addresses := strings.Split(servers, ",")
	turn := int(number[len(number)-1]) + int(number[len(number)-3])
	for place := range addresses {
		wire, err = net.DialTimeout("tcp", addresses[(turn+place)%len(addresses)], 10*time.Second)
		if err == nil {
			return wire, nil
		}
	}
	return nil, err
}

// live goes through the call until the server lets go, or it is lost.
func (c *call) live(server string) {
	defer func() { c.ended = now() }()
	c.dialled = now()
	wire, err := dial(server, c.number)
	if err != nil {
		c.refused, c.lostWhen = true, "connecting"
		return
	}
	defer wire.Close()
	_ = wire.SetDeadline(time.Now().Add(callLimit))
	if _, err = wire.Write([]byte(c.environment(server))); err != nil {
		c.lostWhen = "environment"
		return
	}
	lines := bufio.NewReaderSize(wire, 1024)
	var answered int64 // when our last answer left
	waiting := false   // music is on: the bank is asked
	for {
		line, err := lines.ReadSlice('\n')
		at := now()
		if err != nil {
			if c.status == "" {
				c.lostWhen = fmt.Sprintf("after %d commands: %v", c.commands, err)
			}
			return
		}
		c.commands++
		c.note(at, answered, waiting)
		if bytes.HasPrefix(line, []byte("SET MUSIC ")) {
			waiting = bytes.HasPrefix(line, []byte("SET MUSIC ON"))
		}
		reply := c.obey(string(line))
		if _, err = wire.Write([]byte(reply)); err != nil {
			c.lostWhen = "answering"
			return
		}
		answered = now()
		c.keyed(line, answered)
	}
}

// note takes down what the coming of a command ends.
func (c *call) note(at, answered int64, waiting bool) {
	if c.first == 0 {
		c.first = at
	} else if !waiting {
		c.steps = append(c.steps, at-answered)
	}
	if c.afterOtp == 0 && c.otpAnswered.Load() != 0 {
		c.afterOtp = at
	}
	if c.afterPay == 0 && c.payAnswered.Load() != 0 {
		c.afterPay = at
	}
}

// keyed takes down when the last key of an answer left.
func (c *call) keyed(line []byte, at int64) {
	switch {
	case !bytes.HasPrefix(line, []byte("GET DATA ")):
	case bytes.Contains(line, []byte("/enter-card\"")):
		c.cardKeyed = at
	case bytes.Contains(line, []byte("/enter-pin\"")):
		c.pinKeyed = at
	}
}

// obey answers one command as Asterisk would.
func (c *call) obey(line string) string {
	switch {
	case strings.HasPrefix(line, "STREAM FILE "):
		return "200 result=0 endpos=8000\n"
	case strings.HasPrefix(line, "GET DATA "):
		return c.key(argument(line, 0))
	case strings.HasPrefix(line, "SET VARIABLE "):
		if argument(line, 0) == "PAYSTATUS" {
			c.status = argument(line, 1)
		}
		return "200 result=1\n"
	case strings.HasPrefix(line, "CHANNEL STATUS"):
		return "200 result=6\n"
	case strings.HasPrefix(line, "ANSWER"), strings.HasPrefix(line, "SET MUSIC "):
		return "200 result=0\n"
	}
	return "510 Invalid or unknown command\n"
}

// key answers a question, held there first if this call is.
func (c *call) key(prompt string) string {
	prompt = strings.TrimPrefix(prompt, "ivr-agi/")
	if c.place == prompt {
		c.gate.wait()
	}
	switch prompt {
	case "confirm-amount":
		return "200 result=1\n"
	case "enter-card":
		return "200 result=" + c.pan + "\n"
	case "enter-pin":
		return "200 result=" + c.readPin() + "\n"
	}
	return "200 result= (timeout)\n"
}

// argument is the nth quoted word of a command.
func argument(line string, nth int) string {
	parts := strings.Split(line, `"`)
	if place := 2*nth + 1; place < len(parts) {
		return parts[place]
	}
	return ""
}
