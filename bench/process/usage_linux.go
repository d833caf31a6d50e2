package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what processes and the machine have used up to a moment.
type Usage struct {
	// At is the moment.
	At time.Time
	// Nodes, Own and Machine are CPU time: of the nodes, of this process, of everybody.
	Nodes, Own, Machine time.Duration
	// Written is how many bytes the nodes caused to be written to disk.
	Written uint64
}

// Since is what was used between two moments; At is the later one.
func (u Usage) Since(before Usage) Usage {
	return Usage{At: u.At, Nodes: u.Nodes - before.Nodes, Own: u.Own - before.Own, Machine: u.Machine - before.Machine, Written: u.Written - before.Written}
}

// Foreign is the share of the machine that neither the nodes nor this process used between two moments, 1 being one
// processor.
func (u Usage) Foreign(before Usage) float64 {
	used := u.Since(before)
	return max(0, (used.Machine-used.Nodes-used.Own).Seconds()/u.At.Sub(before.At).Seconds())
}

// clockTick is the unit of /proc; Linux shows user space hundredths of a second on every architecture.
const clockTick = 10 * time.Millisecond

// Usage reads what the cluster, this process and the machine have used so far.
func (c *Cluster) Usage() (u Usage, err error) {
	u.At = time.Now()
	for _, one := range c.All {
		cpu, err := processCPU(one.Pid)
		if err != nil {
			return u, err
		}
		written, err := field(fmt.Sprintf("/proc/%d/io", one.Pid), "write_bytes:")
		if err != nil {
			return u, err
		}
		u.Nodes += cpu
		u.Written += written
	}
	if u.Own, err = processCPU(os.Getpid()); err != nil {
		return u, err
	}
	u.Machine, err = machineCPU()
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

// Memory is the memory that a process holds, in bytes.
func Memory(pid int) (uint64, error) {
	kilobytes, err := field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
	return kilobytes << 10, err
}

// CPUModel names the processor.
func CPUModel() string {
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
