"""What the TLC's host has of many months, asked by HEAD. What follows from the answers belongs elsewhere."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from taxi_orchestration.tlc.client import Publication, TlcClient
from taxi_orchestration.tlc.errors import TlcError

REQUESTS_AT_ONCE = 8
# Four rounds of requests, each to its time-out, take 32 of the 60 seconds that Dagster gives the tick of a sensor.
MAX_MONTHS_A_TICK = 30
CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 5.0


def fetch_publications(base_url: str, months: Sequence[date], attempts: int = 1) -> dict[date, Publication | TlcError]:
    """Fetch what the host says of each month, or why that is not known.

    Once every month of a round failed the host counts as silent, and the rest is not asked for.
    """

    def fetch(month: date) -> Publication | TlcError:
        try:
            return client.publication(month)
        except TlcError as error:
            return error

    answers: dict[date, Publication | TlcError] = {}
    with (
        TlcClient(
            base_url,
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            total_timeout=CONNECT_TIMEOUT + READ_TIMEOUT,
            attempts=attempts,
        ) as client,
        ThreadPoolExecutor(REQUESTS_AT_ONCE) as executor,
    ):
        for start in range(0, len(months), REQUESTS_AT_ONCE):
            some = months[start : start + REQUESTS_AT_ONCE]
            of_round = dict(zip(some, executor.map(fetch, some), strict=True))
            answers |= of_round
            failures = [answer for answer in of_round.values() if isinstance(answer, TlcError)]
            if len(failures) == len(some):
                return answers | dict.fromkeys(months[start + len(some) :], failures[-1])
    return answers
