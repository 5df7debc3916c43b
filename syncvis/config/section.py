"""What every section of a run config is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WrapValidator

from syncvis.references import is_reference

Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]

OWN = WrapValidator(lambda value, check: None if value is None else check(value))
"""Of a setting that may be null: the value is then the method's own, filled in before a run config is validated."""

NULL: Any = None
"""Default of such a setting; its type is the one that it has in a run config, where its method reads it."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class Named:
    """Validator of a name in a table.

    Args:
        table: name -> what it stands for.
        references: whether the table's values are references, so that ``module:function`` may be written too.
    """

    def __init__(self, table: Mapping[str, Any], references: bool = True) -> None:
        self.table, self.references = table, references

    def __call__(self, name: str) -> str:
        if name in self.table:
            return name
        if self.references and is_reference(name):
            return next((known for known, reference in self.table.items() if reference == name), name)
        raise ValueError(f"must be {one_of([*self.table, *['module:function'] * self.references])}")


def one_of(names: Sequence[str]) -> str:
    """``a, b or c``."""
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
