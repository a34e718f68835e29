"""Networks as whole numbers, and an interpreter of them."""

from snnc.export.integers.format import IntegersFormat

__all__ = ["IntegersFormat"]
