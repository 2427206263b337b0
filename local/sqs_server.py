"""SQS on this machine: moto's server, with a queue for each of ours. `python -m local.sqs_server --port P`.

A part of `./zh up`: it announces itself once its queues are there, as who polls a missing one is told that it is wrong.
What it holds is gone when it ends. Bells are all there is, and a lost bell costs a sweep.
"""

import argparse
import signal
import sys

import botocore.session
from moto.server import ThreadedMotoServer

from local import sqs_address
from shared import presence
from shared.domain.jobs import QueueName
from shared.settings import load


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="local.sqs_server")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args(arguments).port
    presence.die_with_parent()
    # Before the server has a thread that could get the signal in its place.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    session = botocore.session.get_session()
    session.set_credentials(*sqs_address.CREDENTIALS.values())
    client = session.create_client("sqs", region_name=sqs_address.REGION, endpoint_url=sqs_address.endpoint(port))
    for queue in QueueName:
        client.create_queue(QueueName=sqs_address.name(queue), Attributes={"VisibilityTimeout": "360"})
    settings = load()
    presence.announce(settings.run_dir, settings.part or "sqs")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
