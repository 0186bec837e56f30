"""Who may use the gateway: tokens, certificates, origins, the operator's authorizer."""
