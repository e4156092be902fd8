"""Synthetic data frames of the report for any number of months, and the data that a page contains."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from taxi_orchestration.report.frames import COLUMNS, Frames, empty_frame
from taxi_orchestration.tlc.dataset import DATASET

PAYMENT_TYPES = {1: "Credit card", 2: "Cash", 3: "No charge", 4: "Dispute", 5: "Unknown", -1: "Not recorded"}
MADE_AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def synthetic_frames(
    first: str = "2024-01",
    months: int = 6,
    *,
    empty: tuple[str, ...] = (),
    shapes: bool = True,
    zone: str = "Zone 1",
    zones: int = 12,
    corners: int = 4,
) -> Frames:
    """Return the frames of consecutive months; the files of the months `empty` have no rows.

    `zone` is the name of the first zone. `corners` is the number of corners of each outline: those of the TLC's
    zones, simplified, have 26 on average.
    """
    random = np.random.default_rng(7)
    every = list(pd.date_range(f"{first}-01", periods=months, freq="MS"))
    full = [month for month in every if f"{month:%Y-%m}" not in empty]
    rows: dict[str, list[tuple[object, ...]]] = {name: [] for name in COLUMNS}
    for month in full:
        days = [(day, int(random.integers(1_000, 3_000))) for day in pd.date_range(month, periods=month.days_in_month)]
        rows["days"] += [(day, trips, 0, round(trips * 21.5, 2)) for day, trips in days]
        trips = sum(count for _, count in days)
        amount = round(sum(round(count * 21.5, 2) for _, count in days), 2)
        rows["months"].append((month, True, trips, amount, 2.9, 14.5, 6.1))
        parts = random.multinomial(trips, np.full(7 * 24, 1 / 168)).reshape(7, 24)
        rows["hours"] += [(month, w + 1, h, int(parts[w, h])) for w in range(7) for h in range(24)]
        pickups, dropoffs = (
            random.multinomial(trips, np.arange(zones, 0, -1) / (zones * (zones + 1) / 2)) for _ in range(2)
        )
        for position in range(zones):
            share = round(amount * pickups[position] / trips, 2)
            rows["zone_months"].append((month, position + 1, int(pickups[position]), int(dropoffs[position]), share))
        paid = random.multinomial(trips, [0.6, 0.3, 0.02, 0.01, 0.01, 0.06])
        for (number, name), count in zip(PAYMENT_TYPES.items(), paid, strict=True):
            tip = 3.2 * count if number == 1 else 0.0
            rows["payments"].append((month, number, name, int(count), round(count * 21.5, 2), count * 15.0, tip))
    for month in every:
        count = sum(row[2] for row in rows["months"] if row[0] == month)
        published = pd.Timestamp(month + pd.DateOffset(months=2), tz="UTC")
        file = DATASET.file_name(month)
        loaded = pd.Timestamp(MADE_AT)
        rows["pipeline"].append(
            (month, published, loaded, file, "ab" * 32, count, count, count - 5 * (count > 0), 5 * (count > 0), 22, 22)
        )
        rows["quality"] += [
            (month, "flag", "refund", count // 300),
            (month, "flag", "pickup outside the month", count // 9_000),
            (month, "rejected", "impossible amount", 5 * (count > 0)),
        ]
    rows["zones"] = [(i + 1, zone if i == 0 else f"Zone {i + 1}", f"Borough {i % 3}") for i in range(zones)]
    if shapes:
        turns = np.linspace(0, 2 * np.pi, corners + 1)
        outline = [(round(40 * np.sin(turn)), round(40 * np.cos(turn))) for turn in turns]
        rows["zone_shapes"] = [
            (i + 1, [[[[x + 100 * (i % 4), y + 100 * (i // 4)] for x, y in outline]]]) for i in range(zones)
        ]
    frames = {
        name: pd.DataFrame(rows[name], columns=list(COLUMNS[name])) if rows[name] else empty_frame(name)
        for name in COLUMNS
    }
    reason = None if shapes else "the TLC's host has no taxi_zones.zip."
    return Frames(**frames, made_at=MADE_AT, no_shapes_reason=reason)


def columns_of(page: str, name: str) -> dict[str, list[Any]]:
    """Return one of the data sets that the page's script draws, by column."""
    payload = re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)
    assert payload
    return {
        column: [value for value, count in values["runs"] for _ in range(count)] if "runs" in values else values
        for column, values in json.loads(payload[1])["data"][name].items()
    }
