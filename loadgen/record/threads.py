#!/usr/bin/env python3
"""Runs a command and says where its time went: CPU seconds by name of thread, peak memory, and how
much of the machine others took meanwhile.

    loadgen/record/threads.py COMMAND ARGUMENT...

Linux only. Threads are looked at ten times a second, so one that lives shorter may be missed; the
sum of all threads is the kernel's. Digits at the end of a thread's name are left out. One line of
JSON goes to standard output after what the command prints.
"""

import collections
import json
import os
import re
import resource
import subprocess
import sys
import time

TICKS = os.sysconf("SC_CLK_TCK")


def busy():
    """CPU seconds of the whole machine so far: user, nice, system, interrupts."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:]]
    return (fields[0] + fields[1] + fields[2] + fields[5] + fields[6]) / TICKS


def threads(pid):
    """CPU ticks of each thread, with its name."""
    found = {}
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/stat", encoding="utf-8") as file:
                name, rest = re.fullmatch(r"\d+ \((.*)\) (.*)", file.read().strip()).groups()
            fields = rest.split()
            found[task] = (re.sub(r"[-:#]?\d+$", "", name), int(fields[11]) + int(fields[12]))
    except OSError:
        pass
    return found


def main():
    """Runs the command of the arguments."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    began, busy_before = time.monotonic(), busy()
    child = subprocess.Popen(sys.argv[1:])
    seen = {}
    while child.poll() is None:
        seen.update(threads(child.pid))
        time.sleep(0.1)
    wall, everybody = time.monotonic() - began, busy() - busy_before
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = usage.ru_utime + usage.ru_stime
    by_name = collections.Counter()
    for name, ticks in seen.values():
        by_name[name] += ticks / TICKS
    answer = {
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "cores": round(cpu / wall, 2),
        "others_cores": round(max(everybody - cpu, 0) / wall, 2),
        "peak_mb": round(usage.ru_maxrss / 1000),
        "threads_s": {name: round(seconds, 2) for name, seconds in by_name.most_common()},
    }
    print(json.dumps(answer))
    sys.exit(child.returncode)


if __name__ == "__main__":
    main()
