"""Those who know users: a JupyterHub, OpenID Connect providers."""
