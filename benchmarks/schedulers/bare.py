"""`task.apply_async` in a loop, as fast as this environment's Celery can: what all are held to.

python -m benchmarks.schedulers.bare NUMBER QUEUE
"""

from __future__ import annotations

import sys
import time

from benchmarks.schedulers.program import TASK, make_app


def main():
    number, queue = int(sys.argv[1]), sys.argv[2]
    task = make_app().tasks[TASK]
    task.apply_async((0,), queue=queue)
    began = time.perf_counter()
    for argument in range(number):
        task.apply_async((argument,), queue=queue)
    print(number / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
