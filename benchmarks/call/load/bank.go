package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// The gateway's stand-in: otp-v2 and pay as gateway-api.md has them, always well-formed. It sends each
// PIN straight to the caller of its order, who is in this very process, and notes when requests came and
// answers left. It judges requests only as far as a mistake would spoil what is measured.

const root = "/api/ivr/bpm"

type bank struct {
	address  string
	delay    atomic.Int64 // nanoseconds before pay is answered
	otpDelay atomic.Int64 // and otp-v2
	refs     atomic.Int64 // tracking numbers given
	wrong    atomic.Int64 // requests that no caller of ours can have caused
	mu       sync.RWMutex
	calls    map[string]*call // by order
}

type request struct {
	Ivr         *int            `json:"ivr"`
	Amount      json.RawMessage `json:"amount"`
	Pan         string          `json:"pan"`
	Pin         string          `json:"pin"`
	OrderID     string          `json:"order_id"`
	MerchantCid string          `json:"merchant_cid"`
	Sequence    string          `json:"sequence"`
}

// openBank listens on an address of loopback, and answers from then on.
func openBank(address string) (*bank, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	b := &bank{address: listener.Addr().String(), calls: map[string]*call{}}
	b.refs.Store(100_000_000_000 + time.Now().UnixMilli()%100_000_000_000)
	mux := http.NewServeMux()
	mux.HandleFunc(root+"/otp-v2", b.otp)
	mux.HandleFunc(root+"/pay", b.pay)
	go func() { _ = (&http.Server{Handler: mux}).Serve(listener) }()
	return b, nil
}

func (b *bank) url() string { return "http://" + b.address + root }

func (b *bank) expect(c *call) {
	b.mu.Lock()
	b.calls[c.order] = c
	b.mu.Unlock()
}

func (b *bank) forget(c *call) {
	b.mu.Lock()
	delete(b.calls, c.order)
	b.mu.Unlock()
}

// read takes a request in, whole; nil if it is none of a call's.
func (b *bank) read(r *http.Request) (*call, *request) {
	var asked request
	if r.Method != http.MethodPost || json.NewDecoder(r.Body).Decode(&asked) != nil {
		return nil, nil
	}
	b.mu.RLock()
	c := b.calls[asked.OrderID]
	b.mu.RUnlock()
	if c == nil || asked.Pan != c.pan || asked.Sequence == "" || string(asked.Amount) != strconv.Itoa(c.amount) {
		return nil, nil
	}
	return c, &asked
}

func (b *bank) otp(w http.ResponseWriter, r *http.Request) {
	c, _ := b.read(r)
	if c == nil {
		b.refuse(w)
		return
	}
	c.otpAsked.Store(now())
	time.Sleep(time.Duration(b.otpDelay.Load()))
	c.newPin()
	c.otpAnswered.Store(now())
	answer(w, `{"status": 1, "data": [], "errors": []}`)
}

func (b *bank) pay(w http.ResponseWriter, r *http.Request) {
	c, asked := b.read(r)
	if c == nil || asked.Ivr == nil || *asked.Ivr != 1 || asked.MerchantCid != c.mobile() {
		b.refuse(w)
		return
	}
	c.payAsked.Store(now())
	c.pays.Add(1)
	if !c.usePin(asked.Pin) {
		answer(w, `{"status": 0, "data": {"refID": "0", "transactionStatus": "55"}, "errors": ["wrong PIN"]}`)
		return
	}
	c.charges.Add(1)
	if c.place == atBank {
		c.gate.wait()
	} else {
		time.Sleep(time.Duration(b.delay.Load()))
	}
	ref := b.refs.Add(1)
	c.payAnswered.Store(now())
	answer(w, fmt.Sprintf(`{"status": 1, "data": {"refID": "%012d"}, "errors": []}`, ref))
}

func (b *bank) refuse(w http.ResponseWriter) {
	b.wrong.Add(1)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnprocessableEntity)
	_, _ = w.Write([]byte(`{"status": 0, "data": [], "errors": ["not a request of this load"]}`))
}

func answer(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write([]byte(body))
}
