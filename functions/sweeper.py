"""Lambda only: every minute, what a worker's sweeper does each second. `functions.sweeper.handler`."""

from functions.worker import works
from shared.queues.lambda_sweep import SweepEntry

handler = SweepEntry(works)
