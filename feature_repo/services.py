"""What is asked together: by training (offline) and by serving (online)."""

from __future__ import annotations

from collections.abc import Mapping

from feast import FeatureService, FeatureView

SERVICES = {
    "users": ["user_profile", "user_footprint"],  # what is known of a user when a sequence begins
    "activity": ["user_activity"],  # asked once for each of a user's other domains
    "items": ["item_statistics"],
    "serving": ["user_profile", "user_footprint", "user_activity", "user_history"],  # one request, online
}


def feature_services(views: Mapping[str, FeatureView]) -> dict[str, FeatureService]:
    """The services by name."""
    return {
        name: FeatureService(name=name, features=[views[view] for view in members])
        for name, members in SERVICES.items()
    }
