"""Networks as whole numbers, and an interpreter of them."""

from snnc.formats.integers.format import IntegersFormat

__all__ = ["IntegersFormat"]
