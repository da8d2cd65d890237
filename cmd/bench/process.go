package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc: hundredths of a second on all Linux
// machines that Go supports.
const tick = time.Second / 100

// cpuTime returns the CPU time of processes and of their children that have
// ended. A process that has ended by now counts for its parent, except the
// first.
func cpuTime(pids ...int) (sum time.Duration, err error) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, os.ErrNotExist) && pid != pids[0] {
			continue
		}
		if err != nil {
			return 0, err
		}
		used, err := parseStat(string(text))
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

// parseStat adds utime, stime, cutime and cstime of a line of /proc/PID/stat,
// fields 14 to 17. The second field, a name in parentheses, may contain spaces
// and parentheses itself.
func parseStat(line string) (sum time.Duration, err error) {
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 15 {
		return 0, fmt.Errorf("no line of /proc/PID/stat: %.80q", line)
	}
	for _, field := range fields[11:15] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("no line of /proc/PID/stat: %.80q", line)
		}
		sum += time.Duration(ticks) * tick
	}
	return sum, nil
}

// others measures the CPU time, since its creation, of all work but this
// program, its children, and some further processes.
type others struct {
	at         time.Time
	busy, ours time.Duration
}

func newOthers(beside ...int) (o others, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return o, err
	}
	if o.busy, err = parseBusy(string(text)); err != nil {
		return o, err
	}
	o.at = time.Now()
	if len(beside) > 0 {
		if o.ours, err = cpuTime(beside...); err != nil {
			return o, err
		}
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var used syscall.Rusage
		if err := syscall.Getrusage(who, &used); err != nil {
			return o, err
		}
		o.ours += time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	return o, nil
}

// percent returns the part of other work in the time of all processors. The
// children must have ended, except the further processes.
func (o others) percent(beside ...int) (float64, error) {
	now, err := newOthers(beside...)
	if err != nil {
		return 0, err
	}
	all := now.at.Sub(o.at) * time.Duration(runtime.NumCPU())
	theirs := (now.busy - o.busy) - (now.ours - o.ours)
	return max(0, 100*float64(theirs)/float64(all)), nil
}

// parseBusy adds user, nice, system and steal of the first line of /proc/stat.
// It ignores interrupts, because the loopback network of this program causes
// many.
func parseBusy(stat string) (sum time.Duration, err error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("no line of /proc/stat: %.80q", line)
	}
	for i, field := range fields[1:9] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("no line of /proc/stat: %.80q", line)
		}
		if i < 3 || i == 7 {
			sum += time.Duration(ticks) * tick
		}
	}
	return sum, nil
}

// peakMemory returns the peak resident memory of a process, in MB (2^20 bytes).
func peakMemory(pid int) (float64, error) { return memory(pid, "VmHWM:") }

// memory returns a field of /proc/PID/status, in MB.
func memory(pid int, field string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseMemory(string(text), field)
}

// parseMemory returns a field of /proc/PID/status, where it is in kB (2^10
// bytes).
func parseMemory(status, field string) (float64, error) {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, field); ok {
			kB, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
			return kB / 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in /proc/PID/status", field)
}
