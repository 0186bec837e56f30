"""`jupyter enterprisegateway`: the only part that reads environment, configuration and argv."""

from enterprise_gateway.app.application import EnterpriseGatewayApp, main

__all__ = ["EnterpriseGatewayApp", "main"]
