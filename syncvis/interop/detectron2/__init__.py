"""SyncVIS inside detectron2: model, data sets, mapper and evaluator for its training scripts. See docs/detectron2.md.

Importing this registers the meta-architecture ``SyncVIS``. Nothing else of syncvis imports detectron2.
"""

from syncvis.errors import MissingDependencyError

try:
    import detectron2  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(
        f"detectron2 is not installed ({error})",
        fix="build it from its source at github.com/facebookresearch/detectron2, see docs/detectron2.md",
    ) from None

from syncvis.interop.detectron2.config import add_syncvis_config, run_config
from syncvis.interop.detectron2.datasets import load_videos, register_dataset, register_datasets
from syncvis.interop.detectron2.evaluator import VideoEvaluator
from syncvis.interop.detectron2.mapper import VideoMapper
from syncvis.interop.detectron2.model import SyncVIS

__all__ = [
    "SyncVIS",
    "VideoEvaluator",
    "VideoMapper",
    "add_syncvis_config",
    "load_videos",
    "register_dataset",
    "register_datasets",
    "run_config",
]
