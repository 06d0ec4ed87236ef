"""Airflow loads what it finds in this folder (`plugins_folder`, pipeline/stack/airflow_env.py)."""

from pipeline.orchestration.plugin import WarmstartPlugin

__all__ = ["WarmstartPlugin"]
