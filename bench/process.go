//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// children returns the processes that a process started, with their binaries.
func children(parent int) map[int]string {
	found := map[int]string{}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, list := range lists {
		pids, _ := os.ReadFile(list) // a thread may have ended meanwhile
		for _, field := range strings.Fields(string(pids)) {
			if pid, err := strconv.Atoi(field); err == nil {
				found[pid] = binaryOf(pid)
			}
		}
	}
	return found
}

// binaryOf returns the binary that a process runs, or nothing.
func binaryOf(pid int) string {
	binary, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return binary
}

// pluginProcess returns the one process of a plugin.
func (v *vault) pluginProcess(command string) (int, error) {
	var pids []int
	for pid, binary := range children(v.process.Process.Pid) {
		if binary == filepath.Join(v.plugins, command) {
			pids = append(pids, pid)
		}
	}
	if len(pids) != 1 {
		return 0, fmt.Errorf("there are %d processes of %s, not one", len(pids), command)
	}
	return pids[0], nil
}

// memory is what a process takes, in bytes.
type memory struct {
	resident int64
	peak     int64 // the most that was ever resident
}

func memoryOf(pid int) (memory, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	resident, err := kilobytes(string(status), "VmRSS")
	if err != nil {
		return memory{}, err
	}
	peak, err := kilobytes(string(status), "VmHWM")
	return memory{resident << 10, peak << 10}, err
}

// kilobytes returns a field of /proc/<pid>/status.
func kilobytes(status, name string) (n int64, err error) {
	_, rest, _ := strings.Cut(status, "\n"+name+":")
	_, err = fmt.Sscanf(rest, "%d kB", &n)
	return n, err
}

// resetPeak has the kernel count the peak from now on.
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// cpuTime returns what Vault and its plugins have used of the processors, and what
// the plugins have of that.
func (v *vault) cpuTime() (total, plugins time.Duration, err error) {
	server := v.process.Process.Pid
	for pid := range children(server) {
		used, err := cpuTimeOf(pid)
		if err != nil {
			return 0, 0, err
		}
		plugins += used
	}
	total, err = cpuTimeOf(server)
	return total + plugins, plugins, err
}

func cpuTimeOf(pid int) (total time.Duration, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The fields are counted from behind the command, which may hold spaces.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, ticks := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(ticks)
		if err != nil {
			return 0, err
		}
		total += time.Duration(n) * tick
	}
	return total, nil
}

// tick is the unit of /proc/<pid>/stat: USER_HZ is 100 on every Linux.
const tick = 10 * time.Millisecond
