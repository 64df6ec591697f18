"""The harness itself: limits that end grandchildren too, which is what a hanging browser is."""

import subprocess
import sys
import time

import lab
import psutil

NESTED = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"


def test_the_time_limit_ends_all_descendants():
    start = time.monotonic()
    with (
        lab.time_limit(1),
        subprocess.Popen(
            [sys.executable, "-c", NESTED], stdout=subprocess.PIPE, text=True
        ) as child,
    ):
        grandchild = int(child.stdout.readline())
        child.wait(20)
    assert time.monotonic() - start < 20
    assert child.returncode < 0
    _, alive = psutil.wait_procs(
        [psutil.Process(grandchild)] if psutil.pid_exists(grandchild) else [], timeout=5
    )
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def test_a_limit_that_is_kept_ends_nothing():
    with subprocess.Popen(["sleep", "60"]) as child:
        with lab.time_limit(0.3):
            pass
        time.sleep(0.5)
        assert child.poll() is None
        child.kill()


BUSY = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'while True: pass']); p.wait()"


def test_too_much_work_is_ended_however_little_time_it_took_and_idling_is_not():
    with lab.Work(1.5) as work, subprocess.Popen([sys.executable, "-c", BUSY]) as child:
        child.wait(60)
        assert child.returncode < 0
        assert work.seconds() > 1.5
    with lab.Work(1.5) as work, subprocess.Popen(["sleep", "60"]) as child:
        time.sleep(2.5)
        assert child.poll() is None
        assert work.seconds() < 0.5
        child.kill()
