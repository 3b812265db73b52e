package main

import (
	"fmt"
	"syscall"
)

// serve is the least that can be called a server: it reads what comes, understands nothing, and sends the next command.
// What Load makes of it is how much Load can make of any server.
func serve(port int, script []step) error {
	const most = 65536
	var lines [][]byte
	for _, s := range script {
		lines = append(lines, append(append([]byte{}, s.verb...), " ivr-agi/numbers/thousand 0123456789 0\n"...))
	}
	listener, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	syscall.SetsockoptInt(listener, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err = syscall.Bind(listener, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	if err = syscall.Listen(listener, 4096); err != nil {
		return err
	}
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		return err
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(listener)}
	if err = syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, listener, &event); err != nil {
		return err
	}
	fmt.Println(port)
	events, buffer, sent := make([]syscall.EpollEvent, 512), make([]byte, 4096), make([]uint8, most)
	for {
		n := wait(epoll, events, -1)
		for i := 0; i < n; i++ {
			fd := int(events[i].Fd)
			if fd == listener {
				for {
					caller, _, err := syscall.Accept4(listener, syscall.SOCK_NONBLOCK)
					if err != nil || caller >= most {
						break
					}
					sent[caller] = 0
					event = syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(caller)}
					syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, caller, &event)
				}
				continue
			}
			got, errno := read(fd, buffer)
			if errno == syscall.EAGAIN {
				continue
			}
			if errno != 0 || got == 0 || int(sent[fd]) == len(lines) || !write(fd, lines[sent[fd]]) {
				hangUp(fd)
				continue
			}
			sent[fd]++
		}
	}
}
