"""What snnc's own members obey, asked of what others add: ``python -m snnc.laws FILE.py``.

An operation is tried as it is made without arguments on a sample [4, 7, 6], or on the ``EXAMPLES`` of the plug-in: a
list of operations, each with the shapes of one sample of its inputs, ``[(Softsign(), (4, 7, 6))]``.
"""

from snnc.laws.verdicts import Judgment, verdicts

__all__ = ["Judgment", "verdicts"]
