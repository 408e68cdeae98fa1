"""Adapting an encoder to somebody's own pictures: linear maps learned without labels, and measured."""

from patchwise.adaptation.measure import Measured
from patchwise.adaptation.run import METHODS, AdaptationReport, adapt, adapt_gallery

__all__ = ["METHODS", "AdaptationReport", "Measured", "adapt", "adapt_gallery"]
