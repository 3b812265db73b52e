// Goserver is a FastAGI server as one would write it in Go: the standard library, a goroutine for each call.
//
//	goserver PORT SCRIPT
//
// It has no deadlines; each would cost it a timer for every command.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"syscall"
)

func main() {
	script, err := readScript(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(conn, script)
	}
}

// serve has one call: its environment, the commands of the script, and closed.
func serve(conn net.Conn, script []command) {
	defer conn.Close()
	session, err := newSession(conn)
	if err == nil {
		err = converse(session, script)
	}
	if err != nil && err != errHangup && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		log.Print(err)
	}
}

type command struct {
	method string
	text   [2]string
	number [2]int
	on     bool
}

func converse(s *session, script []command) (err error) {
	for i := range script {
		switch c := &script[i]; c.method {
		case "answer":
			err = s.Answer()
		case "set_variable":
			err = s.SetVariable(c.text[0], c.text[1])
		case "stream_file":
			_, err = s.StreamFile(c.text[0], c.text[1], 0)
		case "get_data":
			_, _, err = s.GetData(c.text[0], c.number[0], c.number[1])
		case "set_music":
			err = s.SetMusic(c.on, c.text[0])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func readScript(file string) ([]command, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var lines [][]any
	if err = json.Unmarshal(text, &lines); err != nil {
		return nil, err
	}
	var script []command
	for _, line := range lines {
		c := command{method: line[0].(string)}
		switch c.method {
		case "set_variable", "stream_file":
			c.text = [2]string{line[1].(string), line[2].(string)}
		case "get_data":
			c.text[0] = line[1].(string)
			c.number = [2]int{int(line[2].(float64)), int(line[3].(float64))}
		case "set_music":
			c.on, c.text[0] = line[1] == "on", line[2].(string)
		}
		script = append(script, c)
	}
	return script, nil
}
