"""Published weights and models: reading them safely, and turning their names into ours."""

from syncvis.interop.checkpoints import Converted, Misfit, convert
from syncvis.interop.official import from_official
from syncvis.interop.stored import as_tensors, read_stored

__all__ = ["Converted", "Misfit", "as_tensors", "convert", "from_official", "read_stored"]
