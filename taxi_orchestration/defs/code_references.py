"""References from assets to code: the local file, and its page in the repository of the checkout's remote."""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from configparser import ConfigParser, Error
from pathlib import Path
from typing import Any

import dagster as dg

from taxi_orchestration.settings import PROJECT_DIRECTORY

# The hosts whose file pages Dagster can link; a login and a port in the address are left out.
_HOSTS = r"(github\.com|gitlab\.com)"
_REMOTE = re.compile(rf"(?:(?:https?|ssh)://(?:[^/@]*@)?{_HOSTS}(?::\d+)?/|git@{_HOSTS}:)(.+?)(?:\.git)?/?")


def file_metadata(path: Path) -> Mapping[str, Any]:
    """Return the metadata that references the file of an asset."""
    with warnings.catch_warnings():
        # Dagster warns that references are beta, which a user cannot change.
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference = dg.LocalFileCodeReference(file_path=str(path), line_number=1)
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def with_code_references(
    of_python: Iterable[dg.AssetsDefinition], others: Iterable[dg.AssetsDefinition | dg.AssetSpec], url: str | None
) -> Sequence[Any]:
    """Add code references to Python assets; the other assets have their own.

    With the `url` of the repository's web page, each reference is the page of the file there.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        assets = [*dg.with_source_code_references(list(of_python)), *others]
        if url:
            # Dagster links the files of AssetsDefinitions alone.
            assets = [dg.AssetsDefinition(specs=[a]) if isinstance(a, dg.AssetSpec) else a for a in assets]
            # The host's default branch: the checked-out branch may exist only here.
            at_root = dg.AnchorBasedFilePathMapping(PROJECT_DIRECTORY / "README.md", "README.md")
            assets = list(dg.link_code_references_to_git(assets, url, "HEAD", at_root))
        return assets


def repository_url(checkout: Path) -> str | None:
    """Return the web page of the checkout's origin; None without an origin on a known host."""
    config = ConfigParser(strict=False, interpolation=None)
    try:
        config.read(checkout / ".git" / "config")
    except (Error, UnicodeDecodeError):
        return None
    found = _REMOTE.fullmatch(config.get('remote "origin"', "url", fallback=""))
    return f"https://{found[1] or found[2]}/{found[3]}" if found else None
