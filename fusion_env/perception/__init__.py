"""Networks that judge images: features for the guidance loss (Eq. 1) and scores for image quality (IQA*).

All of them are frozen, and chosen by name.
"""

from fusion_env.perception.base import FrozenNetwork
from fusion_env.perception.registry import feature_networks, load_features, load_quality, quality_scores

__all__ = ["FrozenNetwork", "feature_networks", "load_features", "load_quality", "quality_scores"]
