"""The names of dbt that the project needs beyond dbt's documented programmatic entry, imported in this module alone.

Importing this module imports dbt, which takes a second or more. An upgrade of dbt that moves or changes one of these
names fails the test of this module.
"""

from dbt.contracts.graph.manifest import Manifest
from dbt.parser.manifest import extended_mashumuro_decoder
from dbt_common.events.functions import msg_to_dict

__all__ = ["Manifest", "extended_mashumuro_decoder", "msg_to_dict"]
