"""Geometric verification: is the query's plane seen in a hit, and where? Needs OpenCV."""

from patchwise.rerank.geometric.evidence import VERIFIED, raised
from patchwise.rerank.geometric.homography import Projection, correspondences, projections
from patchwise.rerank.geometric.learned_features import LearnedFeatures, known_features, load_features
from patchwise.rerank.geometric.local_features import Keypoints, LocalFeatures, Sift
from patchwise.rerank.geometric.reranker import Geometric
from patchwise.rerank.geometric.significance import false_alarms

__all__ = [
    "VERIFIED",
    "Geometric",
    "Keypoints",
    "LearnedFeatures",
    "LocalFeatures",
    "Projection",
    "Sift",
    "correspondences",
    "false_alarms",
    "known_features",
    "load_features",
    "projections",
    "raised",
]
