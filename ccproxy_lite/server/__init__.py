"""What clients talk to: endpoints, who may ask, life cycle, reload, logs, status, metrics, dashboard."""
