package main

import (
	"syscall"
	"unsafe"
)

// Raw system calls: Go's scheduler is not told, since there is one goroutine and nobody else to run.

const (
	bindAddressNoPort = 24 // IP_BIND_ADDRESS_NO_PORT, ip(7)
	edgeTriggered     = 1 << 31
	sources           = 64 // calls come from 127.0.1.1 to 127.0.1.64, so that ports never run out
)

func wait(epoll int, events []syscall.EpollEvent, milliseconds int) int {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll),
		uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(milliseconds), 0, 0)
	if errno != 0 { // EINTR: a signal of the runtime's own
		return 0
	}
	return int(n)
}

func read(fd int, into []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd),
		uintptr(unsafe.Pointer(&into[0])), uintptr(len(into)))
	return int(n), errno
}

func write(fd int, from []byte) bool {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd),
		uintptr(unsafe.Pointer(&from[0])), uintptr(len(from)))
	return errno == 0 && int(n) == len(from)
}

func hangUp(fd int) { syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0) }

// dial begins to connect; epoll tells when that is done.
func dial(epoll, serial int, to *syscall.SockaddrInet4) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, bindAddressNoPort, 1)
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	from := syscall.SockaddrInet4{Addr: [4]byte{127, 0, 1, byte(1 + serial%sources)}}
	if err = syscall.Bind(fd, &from); err == nil {
		err = syscall.Connect(fd, to)
	}
	if err == nil || err == syscall.EINPROGRESS {
		event := syscall.EpollEvent{
			Events: syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | edgeTriggered, Fd: int32(fd),
		}
		err = syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &event)
	}
	if err != nil {
		syscall.Close(fd)
	}
	return fd, err
}
