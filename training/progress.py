"""The progress protocol, where the trainer's modules look for it."""

from bundle.progress import SILENT, Progress, SilentProgress, SilentStage, Stage

__all__ = ["SILENT", "Progress", "SilentProgress", "SilentStage", "Stage"]
