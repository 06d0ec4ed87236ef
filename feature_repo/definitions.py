"""For people and Feast's own command line: the views over $WARMSTART_FEATURES (default `data/features`)."""

import os
from pathlib import Path

from feature_repo.services import feature_services
from feature_repo.views import feature_views

_views = feature_views(Path(os.environ.get("WARMSTART_FEATURES", "data/features")).absolute())
globals().update(_views)
globals().update({f"{name}_service": service for name, service in feature_services(_views).items()})
