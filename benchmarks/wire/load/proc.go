package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

const ticks = 100 // USER_HZ, of every Linux there is

// ownCPU is the processor time of this process, in seconds.
func ownCPU() float64 {
	var used syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

// cpuOf is that of another process, all its threads', in seconds; 0 of none.
func cpuOf(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return float64(user+system) / ticks
}

// starved is for how long this program's one thread could have run and had no core, in seconds.
func starved() float64 {
	text, _ := os.ReadFile("/proc/self/schedstat")
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	ns, _ := strconv.Atoi(fields[1])
	return float64(ns) / 1e9
}

// residentOf is how many kB of another process are in memory; 0 of none.
func residentOf(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.Atoi(strings.Fields(string(text))[1])
	return pages * os.Getpagesize() / 1024
}

// idleOf is for how many seconds a core has had nothing to do since the machine began; -1 of no such core.
func idleOf(core int) float64 {
	text, _ := os.ReadFile("/proc/stat")
	for _, line := range strings.Split(string(text), "\n") {
		if fields := strings.Fields(line); len(fields) > 5 && fields[0] == fmt.Sprintf("cpu%d", core) {
			idle, _ := strconv.Atoi(fields[4])
			waiting, _ := strconv.Atoi(fields[5])
			return float64(idle+waiting) / ticks
		}
	}
	return -1
}
