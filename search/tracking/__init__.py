"""MLflow as a projection of the record; nothing here is needed to resume a study."""
