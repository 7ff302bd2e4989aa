"""Errors of the pipelines: one tree, drawn here.

PipelineError
├── WeightsError      a weight file or its card is missing, damaged or not what its card says
└── DataSetError      a folder of training cases is not as documented
"""

from __future__ import annotations


class PipelineError(Exception):
    """Root of the errors that the pipelines raise; its text is one line that a person can act on."""


class WeightsError(PipelineError):
    """A weight file or its model card is missing, damaged, or not what its card says."""


class DataSetError(PipelineError):
    """A folder of training cases, or one of its files, is not as its documentation asks."""
