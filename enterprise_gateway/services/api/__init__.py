"""`/api`, `/api/status`, `/healthz` and the other resources that are about the gateway itself."""
