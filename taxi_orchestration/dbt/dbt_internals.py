"""What the project needs of dbt that is not in dbt's documented programmatic entry: imported here, and nowhere else.

Importing this module takes as long as importing dbt, a second or more. An upgrade of dbt that moves or changes one of
these fails the test of this module.
"""

from dbt.contracts.graph.manifest import Manifest
from dbt.parser.manifest import extended_mashumuro_decoder
from dbt_common.events.functions import msg_to_dict

__all__ = ["Manifest", "extended_mashumuro_decoder", "msg_to_dict"]
