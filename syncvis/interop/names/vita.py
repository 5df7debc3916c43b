"""Published names of VITA's second stage -> ours.

Sources: VITA (vita_model.py); the released SyncVIS (syncvis_model.py) and its older name ``vfi`` have the same stage.
"""

from __future__ import annotations

from syncvis.interop.names.naming import Family, Naming

SECOND_STAGE = Naming(
    title="VITA's second stage",
    marker=r"^(vita|vfi|syncvis)_module\.",
    prefix="temporal.",
    rules=((r"^(vita|vfi|syncvis)_module\.", ""),),
)

FAMILY = Family("VITA", additions=(SECOND_STAGE,))
