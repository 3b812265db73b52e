package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

const (
	mostLines = 128  // of the environment
	longest   = 2048 // bytes of a line
)

var errHangup = errors.New("the caller has hung up")

// answer is one of Asterisk's: `200 result=1 (something) endpos=0`.
type answer struct {
	result, note string
	endpos       int
}

// session is one call.
type session struct {
	conn        net.Conn
	reader      *bufio.Reader
	wording     []byte // of the command under way; kept, so that none is allocated for each
	environment map[string]string
}

// newSession reads the environment, up to the blank line.
func newSession(conn net.Conn) (*session, error) {
	s := &session{conn: conn, reader: bufio.NewReaderSize(conn, longest), environment: make(map[string]string, 24)}
	for lines := 0; lines < mostLines; lines++ {
		line, err := s.line()
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			return s, nil
		}
		name, value, found := strings.Cut(string(line), ":")
		if !found || !strings.HasPrefix(name, "agi_") {
			return nil, fmt.Errorf("a line that is none of Asterisk's: %.40q", line)
		}
		if _, twice := s.environment[name[4:]]; twice {
			return nil, fmt.Errorf("%s comes twice", name)
		}
		s.environment[name[4:]] = strings.TrimSpace(value)
	}
	return nil, errors.New("the environment never ended")
}

// line is the next one, without its end; it is good until the next read.
func (s *session) line() ([]byte, error) {
	line, err := s.reader.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// ask sends the command that has been worded, and reads its answer.
func (s *session) ask() (answer, error) {
	s.wording = append(s.wording, '\n')
	if _, err := s.conn.Write(s.wording); err != nil {
		return answer{}, err
	}
	for {
		line, err := s.line()
		if err != nil {
			return answer{}, err
		}
		if bytes.Equal(line, []byte("HANGUP")) {
			return answer{}, errHangup
		}
		if len(line) < 4 || line[0] == '1' { // 100 Trying
			continue
		}
		return read(string(line))
	}
}

func read(line string) (a answer, err error) {
	code, rest := line[:3], line[4:]
	switch {
	case code == "511":
		return a, errHangup
	case code != "200" || !strings.HasPrefix(rest, "result="):
		return a, fmt.Errorf("refused: %s", line)
	}
	rest = rest[len("result="):]
	end := strings.IndexAny(rest, " (")
	if end < 0 {
		return answer{result: rest}, nil
	}
	a.result, rest = rest[:end], rest[end:]
	if open := strings.IndexByte(rest, '('); open >= 0 {
		if shut := strings.LastIndexByte(rest, ')'); shut > open {
			a.note = rest[open+1 : shut]
		}
	}
	if at := strings.LastIndex(rest, "endpos="); at >= 0 {
		if a.endpos, err = strconv.Atoi(rest[at+len("endpos="):]); err != nil {
			return a, fmt.Errorf("no number: %s", line)
		}
	}
	return a, nil
}

func (s *session) word(verb string) { s.wording = append(s.wording[:0], verb...) }

// quote adds an argument, so that no value can end it or the command.
func (s *session) quote(value string) {
	s.wording = append(s.wording, ' ', '"')
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"' || c == '\\':
			s.wording = append(s.wording, '\\', c)
		case c < ' ' || c == 0x7f:
			s.wording = append(s.wording, ' ')
		default:
			s.wording = append(s.wording, c)
		}
	}
	s.wording = append(s.wording, '"')
}

func (s *session) number(value int) {
	s.wording = strconv.AppendInt(append(s.wording, ' '), int64(value), 10)
}

// Answer picks up.
func (s *session) Answer() error {
	s.word("ANSWER")
	_, err := s.ask()
	return err
}

// SetVariable sets a variable of the channel.
func (s *session) SetVariable(name, value string) error {
	s.word("SET VARIABLE")
	s.quote(name)
	s.quote(value)
	_, err := s.ask()
	return err
}

// StreamFile plays a file; it returns the key that ended it, or "".
func (s *session) StreamFile(name, escape string, offset int) (string, error) {
	s.word("STREAM FILE")
	s.quote(name)
	s.quote(escape)
	s.number(offset)
	a, err := s.ask()
	if err != nil || a.result == "0" {
		return "", err
	}
	key, err := strconv.Atoi(a.result)
	if err != nil || key < 0 {
		return "", fmt.Errorf("%s: result %s", name, a.result)
	}
	return string(rune(key)), nil
}

// GetData plays a file and collects keys; it says whether time ran out.
func (s *session) GetData(name string, milliseconds, most int) (keys string, timedOut bool, err error) {
	s.word("GET DATA")
	s.quote(name)
	s.number(milliseconds)
	s.number(most)
	a, err := s.ask()
	return a.result, a.note == "timeout", err
}

// SetMusic starts or stops music on hold of a class.
func (s *session) SetMusic(on bool, class string) error {
	s.word("SET MUSIC")
	if on {
		s.wording = append(s.wording, " ON"...)
	} else {
		s.wording = append(s.wording, " OFF"...)
	}
	s.quote(class)
	_, err := s.ask()
	return err
}
