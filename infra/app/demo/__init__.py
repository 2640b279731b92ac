"""`driftline demo`: the whole path on a lab of this machine, told as it happens."""

from infra.app.demo.story import run_demo

__all__ = ["run_demo"]
