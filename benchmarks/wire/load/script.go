package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// step is one command that is due, and what Asterisk answers to it. long: it waits for the caller, so that a server is
// patient with it.
type step struct {
	verb, answer []byte
	long         bool
}

var answers = map[string]string{
	"answer":       "200 result=0\n",
	"set_variable": "200 result=1\n",
	"stream_file":  "200 result=0 endpos=0\n",
	"get_data":     "200 result=1234\n",
	"set_music":    "200 result=0\n",
}

// readScript reads call.json: the commands of a call, in their order.
func readScript(file string) ([]step, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var lines [][]any
	if err = json.Unmarshal(text, &lines); err != nil {
		return nil, err
	}
	var script []step
	for _, line := range lines {
		name, _ := line[0].(string)
		answer, known := answers[name]
		if !known {
			return nil, fmt.Errorf("%s: no command %q", file, name)
		}
		verb := strings.ToUpper(strings.ReplaceAll(name, "_", " "))
		script = append(script, step{[]byte(verb), []byte(answer), name == "stream_file" || name == "get_data"})
	}
	return script, nil
}

// due says whether a line is the command that this step expects.
func (s *step) due(line []byte) bool {
	n := len(s.verb)
	if len(line) < n || (len(line) > n && line[n] != ' ') {
		return false
	}
	return bytes.Equal(line[:n], s.verb) || bytes.EqualFold(line[:n], s.verb)
}

// environment is what Asterisk 22 sends first; each row of "#" is a call's own number.
const environment = `agi_network: yes
agi_network_script: pay
agi_request: agi://127.0.0.1:4573/pay
agi_channel: PJSIP/trunk-########
agi_language: fa
agi_type: PJSIP
agi_uniqueid: 1795852800.########
agi_version: 22.10.1
agi_callerid: 09123456789
agi_calleridname: unknown
agi_callingpres: 0
agi_callingani2: 0
agi_callington: 0
agi_callingtns: 0
agi_dnid: 700
agi_rdnis: unknown
agi_context: pay
agi_extension: 700
agi_priority: 3
agi_enhanced: 0.0
agi_accountcode: 
agi_threadid: 140211358779072
agi_arg_1: order_id=F########
agi_arg_2: amount=150000

`

// opening words environments, one for each call.
type opening struct {
	text   []byte
	places []int
}

func newOpening() *opening {
	o := &opening{text: []byte(environment)}
	for at := 0; ; {
		found := bytes.Index(o.text[at:], []byte("########"))
		if found < 0 {
			return o
		}
		at += found
		o.places = append(o.places, at)
		at += 8
	}
}

func (o *opening) of(serial int) []byte {
	for _, place := range o.places {
		for digit, left := 7, serial; digit >= 0; digit, left = digit-1, left/10 {
			o.text[place+digit] = byte('0' + left%10)
		}
	}
	return o.text
}
