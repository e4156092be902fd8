"""The pictures of the UI in docs/images: `make screenshots` makes them again, from months in a home of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from taxi_orchestration.postgres.server import remove
from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration_tests.browser.test_ui import ARGUMENTS, CHROMIUM, SECONDS
from taxi_orchestration_tests.support.dagster_dev import dagster_dev

FIRST, LAST, SHOWN = "2023-12", "2024-04", "2024-03"
IMAGES = PROJECT_DIRECTORY / "docs" / "images"
WIDTH, HEIGHT = 1280, 800
COLOURS = 128
LARGEST_BYTES = 100_000

# The name of a picture: the page, and what is on it once it is drawn.
PICTURES = {
    "home": ("/", "taxi_pipeline"),
    "lineage": ("/assets/fct_trips?view=lineage", "trip_quality"),
    "month": (f"/assets/fct_trips?view=partitions&partition={SHOWN}", "sum of total_amount"),
    "check": ("/assets/raw_trips?view=checks&checkDetail=volume_as_expected", "Latest execution"),
}


def take(page: Page, name: str) -> None:
    """Save what the page shows as a picture of few colours."""
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS)
    path = IMAGES / f"{name}.png"
    picture.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(PROJECT_DIRECTORY)}: {size:,} bytes")
    if size > LARGEST_BYTES:
        raise SystemExit(f"{path} is larger than {LARGEST_BYTES:,} bytes: take fewer colours.")


def main() -> None:
    """Load the months, open the pages, save the pictures."""
    if CHROMIUM is None:
        raise SystemExit("No Chromium on this machine: apt-get install chromium.")
    home = Path(tempfile.mkdtemp(prefix="taxi-screenshots-"))
    environment = {"TAXI_HOME": str(home)}
    program = str(Path(sys.executable).with_name("taxi"))
    try:
        with dagster_dev(environment, home / "dev.log") as ui:
            subprocess.run([program, "backfill", FIRST, LAST], env={**os.environ, **environment}, check=True)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
                page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
                page.set_default_timeout(SECONDS)
                for name, (path, drawn) in PICTURES.items():
                    page.goto(f"{ui.page}{path}")
                    page.get_by_text(drawn).first.wait_for()
                    # What moves comes to rest.
                    page.wait_for_timeout(3000)
                    take(page, name)
                browser.close()
    finally:
        remove(home)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
