"""One CPU thread for all tests, here and in the processes that they start.

Small networks gain little from a second thread, and on a busy machine threads that wait for each
other lose tenfold.
"""

import os

import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
