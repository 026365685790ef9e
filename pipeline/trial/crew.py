"""The workers of a soak as they come and go: started, killed, told to end, looked at. Whatever happens, `kill_all` leaves none running."""

import json
import time
from collections import Counter
from pathlib import Path

from pipeline.trial.ground import Ground
from pipeline.trial.life import Life
from pipeline.trial.process import Worker

JUMPING = "pipeline.trial.jumping"


class Crew:
    """`size` of them work at a time; more while one has joined for a while."""

    def __init__(self, ground: Ground, folder: Path, size: int) -> None:
        self._ground, self._folder, self.size = ground, folder, size
        self.working: list[Worker] = []
        self.lives: dict[Worker, Life] = {}
        """Of all that ever worked."""
        self.crashes = 0
        self.problems: list[str] = []
        """What no worker may do."""

    def start(self, *options: str) -> Worker:
        """One more; it has begun when this returns, unless it is to drain."""
        name = f"worker-{len(self.lives)}"
        worker = Worker(self._ground.path, self._folder / f"{name}.log", *options, module=JUMPING)
        self.lives[worker] = Life(name)
        self.working.append(worker)
        return worker if options else worker.wait_until_it_works()

    def fill(self) -> None:
        """As many as there are to be."""
        while len(self.working) < self.size:
            self.start()

    def kill(self, worker: Worker) -> None:
        """SIGKILL."""
        worker.kill()
        self.crashes += 1
        self.working.remove(worker)

    def end(self, worker: Worker) -> None:
        """SIGTERM: it drains and says so with 0."""
        self.working.remove(worker)
        if not worker.running:
            self._gone(worker)
        elif (code := worker.end()) != 0:
            self.problems.append(f"{worker.log}: told to end, it ended with {code}")

    def look(self) -> None:
        """A sample of each; one that has ended by itself is a problem, and another takes its place."""
        for worker in list(self.working):
            if worker.running:
                self.lives[worker].rows.append((time.monotonic(), worker.usage()))
            else:
                self.working.remove(worker)
                self._gone(worker)
        self.fill()

    def _gone(self, worker: Worker) -> None:
        self.crashes += 1
        self.problems.append(f"{worker.log}: it ended by itself with {worker.wait()}")

    def kill_all(self) -> None:
        """At the end, whatever came."""
        for worker in self.lives:
            worker.kill()

    def said(self) -> Counter[str]:
        """How often each event stands in their logs; what is no line of ours counts as `?`."""
        counted: Counter[str] = Counter()
        for worker in self.lives:
            for line in worker.log.read_text(encoding="utf-8").splitlines():
                counted[json.loads(line)["event"] if line.startswith("{") else "?"] += 1
        return counted
