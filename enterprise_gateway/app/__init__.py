"""`jupyter enterprisegateway`: alone in reading environment, configuration files and argv."""

from enterprise_gateway.app.application import EnterpriseGatewayApp, main

__all__ = ["EnterpriseGatewayApp", "main"]
