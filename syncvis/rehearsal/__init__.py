"""What a rehearsal of a run trains: the same model on small frames of a few videos."""

from syncvis.rehearsal.excerpts import Excerpts
from syncvis.rehearsal.shrunken import rehearsed

__all__ = ["Excerpts", "rehearsed"]
