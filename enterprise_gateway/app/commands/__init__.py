"""The subcommands of `jupyter enterprisegateway`."""
