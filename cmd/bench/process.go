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

// tick is the unit of times in /proc: Linux shows them in hundredths of a
// second on all machines that Go knows.
const tick = time.Second / 100

// cpuTime is what processes have used of the processors, together with those
// children of theirs that have ended. What is gone by now counts with its
// parent.
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
// fields 14 to 17. The second field, a name in parentheses, may contain blanks
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

// others tells how busy the processors were with something else than this
// program, what it has started, and some processes beside, since it was made.
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

// percent is their part of the time of all processors. What we have started
// must have ended, but for the processes beside.
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
// Interrupts are nobody's: those of the loopback network come by our own work.
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

// peakMemory is the most of its memory that a process has had in RAM since its
// start, in MB (2^20 bytes).
func peakMemory(pid int) (float64, error) { return memory(pid, "VmHWM:") }

// memory is what /proc/PID/status has in a field, in MB.
func memory(pid int, field string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseMemory(string(text), field)
}

// parseMemory finds a field of /proc/PID/status, which has it in kB (2^10
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
