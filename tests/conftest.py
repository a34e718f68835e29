"""Set the tests up."""

import os

# As the command line does: threads that wait shall sleep, or a busy machine takes many times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "30000")
