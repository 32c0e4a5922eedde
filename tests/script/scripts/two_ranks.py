import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from toy import X, Y, mlp

dist.init_process_group("gloo")
model = DistributedDataParallel(mlp(norm=False))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for i in range(100_000):
    at = torch.randint(0, 700, (32,))
    optimizer.zero_grad()
    loss = F.cross_entropy(model(X[at]), Y[at])
    loss.backward()
    optimizer.step()
