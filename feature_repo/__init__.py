"""The feature repository: entities, views over `data/features`, and the services models and serving ask."""
