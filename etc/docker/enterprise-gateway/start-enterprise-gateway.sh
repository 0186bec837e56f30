#!/bin/sh
# The command of Jupyter Enterprise Gateway's image, which `command` in a site's stack file may name.
exec jupyter-enterprisegateway "$@"
