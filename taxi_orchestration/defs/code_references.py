"""Where the code of each asset is: a file here, and its page in the repository where the checkout has a remote."""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from configparser import ConfigParser, Error
from pathlib import Path
from typing import Any

import dagster as dg

from taxi_orchestration.settings import PROJECT_DIRECTORY

# The hosts whose pages of a file Dagster knows; a login in the address is left out.
_REMOTE = re.compile(r"(?:https?://(?:[^/@]*@)?|(?:ssh://)?git@)(github\.com|gitlab\.com)[:/](.+?)(?:\.git)?/?")


def file_metadata(path: Path) -> Mapping[str, Any]:
    """The entry of an asset's metadata that says in which file it is."""
    with warnings.catch_warnings():
        # That references are new in Dagster is nothing that a user could act on.
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference = dg.LocalFileCodeReference(file_path=str(path), line_number=1)
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def with_code_references(
    of_python: Iterable[dg.AssetsDefinition], others: Iterable[dg.AssetsDefinition | dg.AssetSpec]
) -> Sequence[Any]:
    """All of these assets, those of Python with the lines of their functions; the others say their files themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        assets = [*dg.with_source_code_references(list(of_python)), *others]
        if url := repository_url(PROJECT_DIRECTORY):
            # Of whatever branch is the host's own: the one that is checked out may be nowhere else.
            at_root = dg.AnchorBasedFilePathMapping(PROJECT_DIRECTORY / "README.md", "README.md")
            assets = list(dg.link_code_references_to_git(assets, url, "HEAD", at_root))
        return assets


def repository_url(checkout: Path) -> str | None:
    """The page of the repository that the checkout's origin is; None where there is none, or of another host."""
    config = ConfigParser(strict=False, interpolation=None)
    try:
        config.read(checkout / ".git" / "config")
    except (Error, UnicodeDecodeError):
        return None
    found = _REMOTE.fullmatch(config.get('remote "origin"', "url", fallback=""))
    return f"https://{found[1]}/{found[2]}" if found else None
