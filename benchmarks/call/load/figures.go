package main

import (
	"sort"
	"syscall"
	"time"
)

// What came of some calls, and how long the server took where it counts.

// spread is a distribution in milliseconds.
type spread struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

type figures struct {
	Calls      int            `json:"calls"`
	Seconds    float64        `json:"seconds"` // from the first dialling to the last end
	Status     map[string]int `json:"status"`  // by PAYSTATUS
	Lost       int            `json:"lost"`    // begun, and no PAYSTATUS
	LostWhen   map[string]int `json:"lost_when"`
	Refused    int            `json:"refused"`    // no connection was to be had
	Unanswered int            `json:"unanswered"` // connected, and closed before the first command
	Miscounted int            `json:"miscounted"` // not one charge where paid, or one where not
	Wrong      int64          `json:"wrong"`      // requests at the gateway that no caller can have caused
	PaidPerS   float64        `json:"paid_per_s"`
	Commands   float64        `json:"commands_per_call"`

	CardToOtp    spread `json:"card_to_otp"`    // the last key of the card -> otp-v2 at the gateway
	OtpToCommand spread `json:"otp_to_command"` // its answer -> the next command
	PinToPay     spread `json:"pin_to_pay"`     // the last key of the PIN -> pay at the gateway
	PayToCommand spread `json:"pay_to_command"` // its answer -> the next command
	Added        spread `json:"added"`          // each of these four, of every call
	AddedInAll   spread `json:"added_in_all"`   // the four of a call together
	Step         spread `json:"step"`           // any other answer of ours -> the next command
	FirstCommand spread `json:"first_command"`  // dialling -> the first command
	CallMs       spread `json:"call_ms"`        // dialling -> the end

	Generator generator `json:"generator"`
}

// generator says whether this program itself was the limit.
type generator struct {
	Cpu      float64 `json:"cpu_s"`
	Share    float64 `json:"share"`        // of one core
	Late     spread  `json:"late"`         // open loop: calls begun after their time
	Wake     spread  `json:"wake"`         // how late a goroutine of ours is woken from a sleep of 5 ms
	InFlight int64   `json:"most_at_once"` // calls under way
}

func summarise(calls []*call, seconds float64, wrong int64) figures {
	f := figures{Calls: len(calls), Seconds: seconds, Status: map[string]int{}, LostWhen: map[string]int{}, Wrong: wrong}
	var cardToOtp, otpTo, pinToPay, payTo, added, inAll, steps, first, lasted []int64
	commands := 0
	for _, c := range calls {
		commands += c.commands
		paid := c.status == "PAID"
		switch {
		case c.refused:
			f.Refused++
		case c.status != "":
			f.Status[c.status]++
		case c.commands == 0:
			f.Unanswered++
			f.LostWhen[c.lostWhen]++
		default:
			f.Lost++
			f.LostWhen[c.lostWhen]++
		}
		if charges := c.charges.Load(); paid != (charges == 1) || c.pays.Load() > 1 {
			f.Miscounted++
		}
		steps = append(steps, c.steps...)
		if c.first != 0 {
			first = append(first, c.first-c.dialled)
		}
		if !paid {
			continue
		}
		parts := []int64{
			c.otpAsked.Load() - c.cardKeyed, c.afterOtp - c.otpAnswered.Load(),
			c.payAsked.Load() - c.pinKeyed, c.afterPay - c.payAnswered.Load(),
		}
		cardToOtp, otpTo = append(cardToOtp, parts[0]), append(otpTo, parts[1])
		pinToPay, payTo = append(pinToPay, parts[2]), append(payTo, parts[3])
		added = append(added, parts...)
		inAll = append(inAll, parts[0]+parts[1]+parts[2]+parts[3])
		lasted = append(lasted, c.ended-c.dialled)
	}
	f.PaidPerS = float64(f.Status["PAID"]) / seconds
	if len(calls) > 0 {
		f.Commands = float64(commands) / float64(len(calls))
	}
	f.CardToOtp, f.OtpToCommand = measure(cardToOtp), measure(otpTo)
	f.PinToPay, f.PayToCommand = measure(pinToPay), measure(payTo)
	f.Added, f.AddedInAll = measure(added), measure(inAll)
	f.Step, f.FirstCommand, f.CallMs = measure(steps), measure(first), measure(lasted)
	return f
}

func measure(nanoseconds []int64) spread {
	n := len(nanoseconds)
	if n == 0 {
		return spread{}
	}
	sort.Slice(nanoseconds, func(i, j int) bool { return nanoseconds[i] < nanoseconds[j] })
	at := func(percent int) float64 {
		place := n * percent / 100
		if place >= n {
			place = n - 1
		}
		return float64(nanoseconds[place]) / 1e6
	}
	return spread{n, at(50), at(90), at(99), float64(nanoseconds[n-1]) / 1e6}
}

// cpu is what this process has used so far, in seconds.
func cpu() float64 {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

// watchWaking measures how late a sleeper is woken, until done is closed.
func watchWaking(done <-chan struct{}) <-chan spread {
	told := make(chan spread, 1)
	go func() {
		const nap = 5 * time.Millisecond
		var late []int64
		for {
			select {
			case <-done:
				told <- measure(late)
				return
			default:
				since := now()
				time.Sleep(nap)
				late = append(late, now()-since-int64(nap))
			}
		}
	}()
	return told
}
