"""The publications of many months, fetched from the TLC's host by HEAD. Decisions on the answers belong elsewhere."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from taxi_orchestration.tlc.client import Publication, TlcClient
from taxi_orchestration.tlc.errors import TlcError

REQUESTS_AT_ONCE = 8
# Four rounds of requests that time out take 32 of the 60 seconds that Dagster allows a sensor's tick.
MAX_MONTHS_A_TICK = 30
CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 5.0


def fetch_publications(base_url: str, months: Sequence[date], attempts: int = 1) -> dict[date, Publication | TlcError]:
    """Fetch the publication of each month, or the error that prevented it.

    Once every request of a round failed, the remaining months get the last error without a request.
    """

    def fetch(month: date) -> Publication | TlcError:
        try:
            return client.fetch_publication(month)
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
