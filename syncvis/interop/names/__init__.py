"""Published names -> our names, as data: a file for the backbones and one for each method.

The left column of a table is what stands in the files, the right column is ours. What a file holds besides is listed
too, with the reason why it is not taken.
"""

from __future__ import annotations

from syncvis.interop.names import mask2former, minvis, vita
from syncvis.interop.names.naming import Family

FAMILIES: dict[str, Family] = {
    "mask2former_vis": mask2former.FAMILY,
    "minvis": minvis.FAMILY,
    "vita": vita.FAMILY,
}
"""By the name of the method; another one is a file here and its line."""

ADDITIONS = tuple(table for family in FAMILIES.values() for table in family.additions)
"""Tables of names that files have besides a Mask2Former's."""
