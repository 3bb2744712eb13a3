"""Weights and settings in the layout of Hugging Face directories, in and out."""

from genax.interop.made_scheduler import make_scheduler
from genax.interop.pipeline import load_pipeline
from genax.interop.pretrained import export_pretrained, load_pretrained
from genax.interop.schedulers import load_scheduler, scheduler_config

__all__ = [
    "export_pretrained",
    "load_pipeline",
    "load_pretrained",
    "load_scheduler",
    "make_scheduler",
    "scheduler_config",
]
