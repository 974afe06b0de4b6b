"""A worker: `python -m examples.tasks`, as many as you like, with TASKS_DATABASE in the environment.

That login owns the table `task_runs` and is a member of syncd_writer and syncd_consumer.
"""

from __future__ import annotations

import asyncio
import os

from examples.tasks import jobs, worker

asyncio.run(worker.serve(os.environ["TASKS_DATABASE"], jobs.TASKS))
