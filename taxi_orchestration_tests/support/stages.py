"""A callback at a stage of a load."""

from collections.abc import Callable
from datetime import date

from taxi_orchestration.loading import Progress


class CallAtStage(Progress):
    """A progress that calls a function once, when a load reaches a stage."""

    def __init__(self, stage: str, action: Callable[[], object]) -> None:
        self.stage, self.action = stage, action

    def _reached(self, stage: str) -> None:
        if stage == self.stage:
            self.stage = ""
            self.action()

    def started(self, month: date) -> None:
        self._reached("started")

    def opened(self, month: date, rows: int) -> None:
        self._reached("opened")

    def copied(self, month: date, rows: int) -> None:
        if rows:
            self._reached("copied")

    def loaded(self, month: date, error: Exception | None) -> None:
        self._reached("loaded")
