"""Reading the public YAML files of Mask2Former-VIS and SyncVIS; needs no detectron2."""

from syncvis.interop.detectron2_yaml.command import import_config
from syncvis.interop.detectron2_yaml.report import Line, Outcome, Report
from syncvis.interop.detectron2_yaml.translate import read_detectron2_yaml, translate

__all__ = ["Line", "Outcome", "Report", "import_config", "read_detectron2_yaml", "translate"]
