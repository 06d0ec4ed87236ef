"""For people and Feast's own command line, which finds what stands at the top level of the files here.

Run it from the checkout: `WARMSTART_FEATURES=$PWD/data/features feast -c feature_repo apply`.
"""

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
if str(CHECKOUT) not in sys.path:  # Feast's command line runs inside this folder
    sys.path.insert(0, str(CHECKOUT))

from feature_repo.services import feature_services  # noqa: E402
from feature_repo.views import feature_views  # noqa: E402

_views = feature_views(Path(os.environ.get("WARMSTART_FEATURES", CHECKOUT / "data" / "features")))
globals().update(_views)
globals().update({f"{name}_service": service for name, service in feature_services(_views).items()})
