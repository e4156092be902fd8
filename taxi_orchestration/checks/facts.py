"""What became of a month's rows and of their money: facts and rejected trips, and nothing else."""

from decimal import Decimal

from taxi_orchestration.checks.finding import Finding
from taxi_orchestration.warehouse.measures import Sums

_AGAIN = "Build the month again: taxi backfill {0} {0} --reprocess completed"


def check_fact_rows(month: str, raw: Sums, fact: Sums, rejected: Sums) -> Finding:
    """Whether every row of raw_trips is a fact or a rejected trip."""
    counts: dict[str, int | float | str] = {
        "rows in raw_trips": raw.rows,
        "rows in fct_trips": fact.rows,
        "rows in rejected_trips": rejected.rows,
    }
    says = f"{month}: {raw.rows:,} rows in raw_trips, {fact.rows:,} facts and {rejected.rows:,} rejected."
    if raw.rows == fact.rows + rejected.rows:
        return Finding("good", says, counts=counts)
    return Finding("error", f"{says} They do not add up.", _AGAIN.format(month), counts)


def check_money(month: str, raw: Sums, fact: Sums, rejected: Sums) -> Finding:
    """Whether total_amount of raw_trips is that of the facts and the rejected trips together, to the cent."""
    difference = raw.total_amount - fact.total_amount - rejected.total_amount
    counts: dict[str, int | float | str] = {
        "total_amount of raw_trips": _dollars(raw.total_amount),
        "total_amount of fct_trips": _dollars(fact.total_amount),
        "total_amount of rejected_trips": _dollars(rejected.total_amount),
        "difference": _dollars(difference),
    }
    if not difference:
        return Finding(
            "good", f"{month}: {_dollars(raw.total_amount)} in raw_trips and in what came of it.", counts=counts
        )
    return Finding(
        "error",
        f"{month}: {_dollars(difference)} of total_amount in raw_trips is neither in fct_trips nor in rejected_trips.",
        _AGAIN.format(month),
        counts,
    )


def _dollars(amount: Decimal) -> str:
    return f"{amount:,.2f}"
