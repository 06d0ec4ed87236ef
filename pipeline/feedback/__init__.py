"""From what users did to what the next night learns. The files are `pipeline/data/feedback.py`'s matter."""
