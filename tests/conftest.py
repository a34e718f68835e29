"""Set the tests up."""

from snnc import process

# As the command line does, and before any test imports torch.
process.prepare()
