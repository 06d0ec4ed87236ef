"""Containers of stages on a Docker engine: found by their labels, by whoever starts or ends them."""
