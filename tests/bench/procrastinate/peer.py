"""Procrastinate under the bench: `python peer.py migrate|produce|work SPEC`, in an environment of its own.

`produce` takes an order as in local/bench/producing.py. `work` takes `concurrency`, `records` and `immediate`. All take
`postgres`, a URL. The checkout is on PYTHONPATH, for the recorder and the payload; they need the standard library only.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import procrastinate

from local.bench.producing import Job, Order, produce
from local.bench.recorder import Recorder

_, verb, text = sys.argv
spec = json.loads(text)
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=spec.pop("postgres"), max_size=20))
recorder = Recorder(Path(spec.get("records", ".")), is_immediate=spec.get("immediate", False))


@app.task(name="job", queue="bench")
async def job(data: Job) -> None:
    """Do nothing, for as long as the job says."""
    began = recorder.began(data)
    if data["workMs"]:
        await asyncio.sleep(data["workMs"] / 1000)
    recorder.ended(data, began)


async def add_many(jobs: Sequence[Job]) -> None:
    """Defer a batch in one statement."""
    await job.batch_defer_async(*[{"data": one} for one in jobs])


async def main() -> None:
    """Do what the verb says; `work` goes on until SIGTERM."""
    async with app.open_async():
        if verb == "migrate":
            await app.schema_manager.apply_schema_async()
        elif verb == "produce":
            await produce(Order(**spec), lambda one: job.defer_async(data=one), add_many)
        else:
            # Finished jobs are deleted, as BullMQ's are removed.
            await app.run_worker_async(queues=["bench"], concurrency=spec["concurrency"], delete_jobs="successful")


asyncio.run(main())
