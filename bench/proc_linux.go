package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// usage is what processes and the machine have used up to a moment.
type usage struct {
	at      time.Time
	nodes   time.Duration // CPU time of the nodes
	own     time.Duration // CPU time of this process
	machine time.Duration // CPU time of everybody
	written uint64        // bytes that the nodes caused to be written to disk
}

// clockTick is the unit of /proc; Linux shows user space hundredths of a second on every architecture.
const clockTick = 10 * time.Millisecond

func (n *nodes) usage() (u usage, err error) {
	u.at = time.Now()
	for _, one := range n.all {
		cpu, err := processCPU(one.cmd.Process.Pid)
		if err != nil {
			return u, err
		}
		written, err := field(fmt.Sprintf("/proc/%d/io", one.cmd.Process.Pid), "write_bytes:")
		if err != nil {
			return u, err
		}
		u.nodes += cpu
		u.written += written
	}
	if u.own, err = processCPU(os.Getpid()); err != nil {
		return u, err
	}
	u.machine, err = machineCPU()
	return u, err
}

// processCPU reads user and system time of a process.
func processCPU(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may hold blanks.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	return ticks(fields[11], fields[12])
}

// machineCPU reads what all processors have done, idling and waiting for disks apart.
func machineCPU() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal
	return ticks(fields[1], fields[2], fields[3], fields[6], fields[7])
}

func ticks(fields ...string) (sum time.Duration, err error) {
	for _, field := range fields {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * clockTick
	}
	return sum, nil
}

// field reads the number behind a name in a file of /proc.
func field(file, name string) (uint64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
			return strconv.ParseUint(fields[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}

// rss is the memory that a process holds, in bytes.
func rss(pid int) (uint64, error) {
	kilobytes, err := field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
	return kilobytes << 10, err
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	for line := range strings.Lines(string(text)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return "unknown CPU"
}
